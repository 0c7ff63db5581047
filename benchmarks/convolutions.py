"""Convolutional networks on a CPU against plain JAX: training, loss, gradients and Hessian products, as ratios."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from benchmarks.report import Column, Table, say
from nngp_prior.schemas.specs.architecture import Architecture, Convolutional, Residual
from nngp_prior.schemas.specs.training import SGD, Training
from nngp_prior.sharpness import EmpiricalRisk, hessian, train
from nngp_prior.sharpness.risk.networks import finite_network, high_precision

N, BATCH, EPOCHS = 64, 32, 2
_RATE = 0.01
_SECONDS, _TURNS = 1.0, 3  # of taking turns, at least
Convolve = Callable[[Array, Array, int], Array]
Shape = tuple[int, ...]


def run(quick: bool) -> Iterator[Table]:
    """Each of ours and of plain JAX in turn, and the best time of each."""
    images = [(8, 8, 3)] if quick else [(8, 8, 3), (28, 28, 1), (32, 32, 3)]
    yield _table("Convolutional networks against plain JAX", Convolutional, images, [8] if quick else [8, 32])
    yield _table("Residual networks against plain JAX", Residual, images, [8])


def _table(title: str, kind: type[Convolutional | Residual], images: list[Shape], channels: list[int]) -> Table:
    rows = []
    for shape, count, dtype in itertools.product(images, channels, ("float32", "float64")):
        image = " × ".join(map(str, shape))
        say(f"{kind.__name__}, {image}, {count} channels, {dtype}")
        figures = _compared(kind(channels=count), shape, dtype)
        rows.append({"image": image, "channels": count, "dtype": dtype} | figures)
    columns = [Column(name, name) for name in ("image", "channels", "dtype")]
    for what in ("epoch", "loss", "gradient", "product"):
        columns += [Column(f"{what}, ms", f"{what}_ms", ".1f"), Column("ratio", f"{what}_ratio", ".2f")]
    notes = [
        f"{N} images; epoch: SGD on minibatches of {BATCH}, and the loss of all images; product: with the Hessian",
        "ratio: to the faster of lax.conv_general_dilated and patches @ weights in plain JAX, one compiled function of "
        "all images; in training one compiled step in a Python loop",
        "all in turn, twice in each; the least of the second times",
    ]
    return Table(title, columns, rows, notes)


def _compared(network: Architecture, shape: Shape, dtype: str) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    X, y = rng.random((N, *shape)), np.where(rng.random(N) < 0.5, -1, 1)
    finite = finite_network(network, shape)
    parameters = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), finite.init(0))
    v = rng.standard_normal(finite.size).astype(dtype)
    risk = EmpiricalRisk.of(network, parameters, X, y, dtype=dtype)

    def epochs(count: int) -> None:
        how = Training(optimizer=SGD(learning_rate=_RATE), batch_size=BATCH, epochs=count, goal="none", dtype=dtype)  # pyright: ignore
        train(network, X, y, how)

    ours = {
        "loss": lambda: risk.loss(risk.theta),
        "gradient": lambda: risk.gradient(risk.theta),
        "product": lambda: hessian(risk)(v),
    }
    found: dict[str, Any] = {}
    with high_precision():
        peers = [_plain(network, convolve, parameters, v, X, y, dtype) for convolve in (_by_lax, _by_patches)]
        for peer in peers:
            np.testing.assert_allclose(peer["loss"](), ours["loss"](), rtol=1e-5)
        for what, function in ours.items():
            own, *others = _in_turn([function, *(peer[what] for peer in peers)])
            found |= {f"{what}_ms": 1000 * own, f"{what}_ratio": own / min(others)}
        # What one call of train costs beside epochs is taken off.
        few, many, *others = _in_turn(
            [functools.partial(epochs, 1), functools.partial(epochs, 1 + EPOCHS), *(peer["epoch"] for peer in peers)]
        )
        own = (many - few) / EPOCHS
        found |= {"epoch_ms": 1000 * own, "epoch_ratio": own / min(others)}
    return found


def _in_turn(functions: list[Callable[[], Any]]) -> list[float]:
    """The least time of each, of the second of two calls: the first has its memory to get, after another function."""
    for function in functions:
        jax.block_until_ready(function())
    times: list[list[float]] = [[] for _ in functions]
    began = time.perf_counter()
    while len(times[0]) < _TURNS or time.perf_counter() - began < _SECONDS:
        for function, of_function in zip(functions, times, strict=True):
            jax.block_until_ready(function())
            start = time.perf_counter()
            jax.block_until_ready(function())
            of_function.append(time.perf_counter() - start)
    return [min(of_function) for of_function in times]


def _plain(
    network: Architecture, convolve: Convolve, parameters: Any, v: np.ndarray, X: np.ndarray, y: np.ndarray, dtype: str
) -> dict[str, Callable[[], Any]]:
    """The same network as one writes it with JAX alone."""
    weights = [jnp.asarray(leaf) for leaf in jax.tree.leaves(parameters)]
    splits = np.cumsum([leaf.size for leaf in weights])[:-1]
    tangents = [jnp.asarray(part).reshape(leaf.shape) for part, leaf in zip(np.split(v, splits), weights, strict=True)]
    inputs, labels = jnp.asarray(X, dtype), jnp.asarray(y, dtype)
    forward = _residual if isinstance(network, Residual) else _convolutional

    def loss(weights: list[Array], X: Array, y: Array) -> Array:
        return jnp.mean(jax.nn.softplus(-y * forward(convolve, weights, X)[:, 0]))

    gradient = jax.grad(loss)
    mean, slopes = jax.jit(loss), jax.jit(gradient)
    product = jax.jit(lambda weights, v: jax.jvp(lambda w: gradient(w, inputs, labels), (weights,), (v,))[1])
    step = jax.jit(lambda weights, X, y: [w - _RATE * g for w, g in zip(weights, gradient(weights, X, y), strict=True)])

    def epoch() -> list[Array]:
        trained = weights
        for first in range(0, N, BATCH):
            trained = step(trained, inputs[first : first + BATCH], labels[first : first + BATCH])
        return [*trained, mean(trained, inputs, labels)]

    return {
        "loss": lambda: mean(weights, inputs, labels),
        "gradient": lambda: slopes(weights, inputs, labels),
        "product": lambda: product(weights, tangents),
        "epoch": epoch,
    }


def _convolutional(convolve: Convolve, weights: list[Array], x: Array) -> Array:
    for W, b in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        x = jax.nn.relu(convolve(x, W, 1) + b)
    return x.reshape(len(x), -1) @ weights[-2] + weights[-1]


def _residual(convolve: Convolve, weights: list[Array], x: Array) -> Array:
    """Three groups of one block: in the order of the flat vector main branches come before shortcuts."""
    rest = iter(weights)

    def layer(x: Array, stride: int = 1) -> Array:
        return convolve(x, next(rest), stride) + next(rest)

    x = layer(x)
    for stride in (1, 2, 2):
        main = layer(jax.nn.relu(layer(jax.nn.relu(x), stride)))
        x = main + layer(x, stride)
    return jnp.mean(jax.nn.relu(x), axis=(1, 2)) @ next(rest) + next(rest)


def _by_lax(x: Array, W: Array, stride: int) -> Array:
    return lax.conv_general_dilated(x, W, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _by_patches(x: Array, W: Array, stride: int) -> Array:
    size, (n, height, width, _) = len(W), x.shape
    pads = lax.padtype_to_pads((height, width), (size, size), (stride, stride), "SAME")
    x, height, width = jnp.pad(x, ((0, 0), *pads, (0, 0))), -(-height // stride), -(-width // stride)
    parts = [
        x[:, i : i + stride * (height - 1) + 1 : stride, j : j + stride * (width - 1) + 1 : stride]
        for i in range(size)
        for j in range(size)
    ]
    patches = jnp.concatenate(parts, axis=-1).reshape(n * height * width, -1)
    return (patches @ W.reshape(-1, W.shape[-1])).reshape(n, height, width, -1)
