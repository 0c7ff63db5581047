"""Finite networks as functions of a key and inputs, returning features whose products give a kernel."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from nngp_prior.architectures import FromNetwork, layers_of, network_of
from nngp_prior.architectures.layers import Dense
from nngp_prior.errors import InvalidInput
from nngp_prior.numerics.chunks import even_chunks, filled_up
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.kernel import MonteCarlo

_LARGEST = 2**24  # numbers in the largest array of one network's forward pass, 128 MiB
_GROUP = 2**23  # numbers in the features or the weights of networks drawn together, 64 MiB
_TOLERANCE = 1e-4  # relative, of repeated evaluations; a user's network may compute in float32


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """A random network's features h: its kernel is offset + scale · mean over units of h(x) h(x').

    Attributes:
        init: (key, input shape) -> (output shape, parameters).
        apply: (parameters, X) -> (n, units).
        scale: σ_w² of a readout layer that is averaged over exactly, else 1.
        offset: σ_b² of that layer, else 0.
        check: True if init and apply must be verified to be functions of their arguments.
    """

    init: Callable[..., Any]
    apply: Callable[..., Any]
    scale: float = 1.0
    offset: float = 0.0
    check: bool = False


def features_of(architecture: Architecture | FromNetwork, monte_carlo: MonteCarlo) -> Features:
    """Return the features that are averaged.

    Args:
        architecture: a specification, or a user's network.
        monte_carlo: specification of the features.

    Returns:
        initialiser and forward pass.

    Raises:
        InvalidInput: if penultimate features of a user's network are requested.
    """
    # pyright does not recognise that frozen models are hashable.
    return _features_of(architecture, monte_carlo.features, monte_carlo.outputs)  # pyright: ignore[reportArgumentType]


@functools.lru_cache(maxsize=16)  # equal networks give the same functions, which are then compiled once
def _features_of(architecture: Architecture | FromNetwork, features: str | None, outputs: int) -> Features:
    if isinstance(architecture, FromNetwork):
        if features == "penultimate":
            problem = f"got 'penultimate' but the layers of {architecture.name!r} are unknown: it is opaque"
            raise InvalidInput("features", problem, "Pass features='outputs'.")
        return Features(architecture.init, _with_columns(architecture.apply), check=True)
    *hidden, readout = layers_of(architecture)
    assert isinstance(readout, Dense)
    if features == "outputs":
        network = network_of((*hidden, dataclasses.replace(readout, units=outputs)))
        return Features(network.init, network.apply)
    network = network_of(tuple(hidden))
    return Features(network.init, network.apply, readout.weight_std**2, readout.bias_std**2)


def _with_columns(apply: Callable[..., Any]) -> Callable[..., Any]:
    """Add a column axis to outputs that have none."""

    def with_columns(parameters: Any, X: Any) -> Any:
        outputs = jnp.asarray(apply(parameters, X))
        return outputs[:, None] if outputs.ndim == 1 else outputs

    return with_columns


class Drawer:
    """Draws networks and computes their features, one group of networks at a time; float64 must be enabled.

    Args:
        features: features to compute.
        X: (n, …) inputs.
        seed: random seed; network r has the key ``fold_in(key(seed), r)``.
        most: maximum number of networks per call.

    Attributes:
        n: number of inputs.
        units: number of features per network.
        group: number of networks drawn together.

    Raises:
        InvalidInput: if the network's outputs have a wrong shape or type, or are not a function of parameters and
            input.
    """

    def __init__(self, features: Features, X: Float[np.ndarray, "n ..."], seed: int, most: int) -> None:
        self.n, shape, self._key = len(X), (1, *X.shape[1:]), jax.random.key(seed)
        one = jax.ShapeDtypeStruct(shape, X.dtype)
        try:
            shapes = jax.eval_shape(lambda r: _parameters(features, shape, self._key, r), 0)
            self.units = _units(features.apply, shapes, one)
            largest = _largest_array(jax.make_jaxpr(features.apply)(shapes, one).jaxpr)
        except jax.errors.JAXTypeError as error:
            problem = f"cannot be traced by JAX ({str(error).splitlines()[0]})"
            remedy = "Write init and apply with jax.numpy, without branches on values."
            raise InvalidInput("architecture", problem, remedy) from None
        rows = max(1, min(self.n, _LARGEST // max(largest, 1)))
        chunks, rows = even_chunks(self.n, rows)
        self._X = jnp.asarray(filled_up(X, chunks * rows).reshape(chunks, rows, *X.shape[1:]))
        weights = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
        fitting = max(1, min(most, _GROUP // max(self.n * self.units, weights)))
        _, self.group = even_chunks(most, fitting)
        self._draw, self._forward = _compiled(features, shape)
        if features.check:
            self._check(features.apply, _parameters(features, shape, self._key, 0), X[:1])

    def __call__(self, numbers: range) -> Float[np.ndarray, "group n units"]:
        """Compute features of some networks.

        Args:
            numbers: numbers of the networks, at most ``group`` of them.

        Returns:
            one matrix per network.

        Raises:
            InvalidInput: if a feature is not finite.
        """
        H = self._features(numbers)
        if not np.isfinite(H).all():
            r, i, unit = np.argwhere(~np.isfinite(H))[0]
            raise InvalidInput(
                "architecture",
                f"network {numbers[r]} gives {H[r, i, unit]} at input {i}, unit {unit}",
                "Scale X or the weights down, or correct apply.",
            )
        return H

    def _features(self, numbers: range) -> np.ndarray:
        # The last group is padded with networks that are discarded, so that one compilation serves all calls.
        group = jnp.arange(numbers.start, numbers.start + self.group, dtype=jnp.uint32)
        return np.asarray(self._forward(group, self._draw(self._key, group), self._X))[: len(numbers), : self.n]

    def _check(self, apply: Callable[..., Any], parameters: Any, first: Float[np.ndarray, "1 ..."]) -> None:
        """Refuse outputs that change from call to call, or with the other inputs of a call."""
        outputs = self._features(range(1))[0, 0]
        drawn = jax.tree.map(lambda leaf: leaf[0], self._draw(self._key, jnp.arange(self.group, dtype=jnp.uint32)))
        if not all(map(_alike, jax.tree.leaves(parameters), jax.tree.leaves(drawn))):
            remedy = "Take all randomness from the key."
            raise InvalidInput("init", "gives other parameters when it is called again with the same key", remedy)
        if not _alike(np.asarray(apply(drawn, first))[0], outputs):
            problem = "gives an input other outputs when it is called again, or when other inputs are in the same call"
            raise InvalidInput("apply", problem, "Use no randomness in apply, and normalise over units, not inputs.")


def _parameters(features: Features, shape: tuple[int, ...], key: Any, r: Any) -> Any:
    """Return the parameters of network r."""
    return features.init(jax.random.fold_in(key, r), shape)[1]


@functools.lru_cache(maxsize=16)
def _compiled(features: Features, shape: tuple[int, ...]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return functions that draw networks and that compute their features, compiled once for all calls."""

    def forward(numbers: Any, drawn: Any, X: Any) -> Any:
        def one_network(network: Any) -> Any:
            return jax.lax.map(lambda rows: features.apply(network[1], rows), X)

        H = jax.lax.map(one_network, (numbers, drawn))  # includes numbers, since there may be no parameters
        return H.reshape(len(H), -1, H.shape[-1]).astype(jnp.float64)

    # One network after another: in parallel, convolutions would become grouped ones, which are slow in XLA. Compiling a
    # random number generator takes longer than running it, hence reduced optimisation there.
    draw = jax.jit(
        lambda key, numbers: jax.lax.map(lambda r: _parameters(features, shape, key, r), numbers),
        compiler_options={"xla_backend_optimization_level": 1},
    )
    return draw, jax.jit(forward)


def _alike(A: Any, B: Any) -> bool:
    """True if two arrays are equal up to float32 rounding; NaN is ignored."""
    A, B = np.asarray(A), np.asarray(B)
    return A.shape == B.shape and not np.any(np.abs(A - B) > _TOLERANCE * np.abs(B).max(initial=0.0))


def _units(apply: Callable[..., Any], parameters: Any, one: jax.ShapeDtypeStruct) -> int:
    """Return the number of features per input; the output for three inputs must have three rows."""
    three = jax.ShapeDtypeStruct((3, *one.shape[1:]), one.dtype)
    outputs = jax.eval_shape(apply, parameters, three)
    if outputs.ndim != 2 or outputs.shape[0] != 3 or outputs.shape[1] == 0:
        problem = f"gives shape {outputs.shape} for 3 inputs, X of shape {three.shape}"
        raise InvalidInput("apply", problem, "Return outputs of shape (n, outputs) or (n,).")
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise InvalidInput("apply", f"gives numbers of type {outputs.dtype}", "Return real floating-point numbers.")
    return outputs.shape[1]


def _largest_array(jaxpr: Any) -> int:
    """Return the size of the largest array in a computation, inner functions included."""
    sizes = [0]
    for equation in jaxpr.eqns:
        sizes += [math.prod(getattr(variable.aval, "shape", ())) for variable in equation.outvars]
        inner = (getattr(value, "jaxpr", None) for value in equation.params.values())
        sizes += [_largest_array(part) for part in inner if hasattr(part, "eqns")]
    return max(sizes)
