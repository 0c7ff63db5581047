r"""Infinite-width kernels, layer by layer, for tiles of inputs × inputs.

A state holds covariances K of units, and for the NTK also the tangent kernel Θ, in one of three layouts; the last two
axes are those of the first and of the second inputs:

- vectors: (n, n2);
- equal pixels: (height, width, n, n2). All that ``flatten`` readouts need;
- all pairs of pixels: (height, width, height, width, n, n2). Pooling needs them.

What an input's own variances give, in each layer with an activation, is computed once an input, not once a pair. Layers
are compiled one by one (elementwise ones that follow each other together), so that layers alike are compiled once; XLA
would otherwise compute an activation's dual again at each tap of the convolution after it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from nngp_prior.architectures.layers import (
    Activation,
    Convolution,
    Dense,
    Flatten,
    GlobalAveragePool,
    Layer,
    LayerNorm,
    Layers,
    Pooling,
    Sum,
)
from nngp_prior.errors import InvalidInput
from nngp_prior.kernels.duals import Terms, dual
from nngp_prior.schemas.architecture import Padding

Get = Literal["nngp", "ntk"]

_EPS = 1e-12  # added to variances by layer normalisation
_EQUAL, _ALL = 4, 6  # axes of the layouts of images
_TOGETHER = 5  # so many elementwise layers at most are compiled as one
_BLOCK = 2**19  # covariances in a block of rows of a tile of images
_HIGHEST = lax.Precision.HIGHEST


class Prepared(NamedTuple):
    """What tiles need of their inputs; all arrays have the inputs as first axis, so that a tile's are slices.

    Attributes:
        X: (n, d) or (n, height, width, channels) inputs.
        terms: of each layer, what its dual needs of an input.
        own: (n,) the kernel of each input with itself.
    """

    X: Any
    terms: Any
    own: Any


class _State(NamedTuple):
    """Covariances, and the tangent kernel if it is wanted."""

    K: Array
    Θ: Array | None

    def map(self, function: Callable[[Array], Array]) -> _State:
        return _State(function(self.K), None if self.Θ is None else function(self.Θ))


@dataclass(frozen=True)
class _EqualPixels:
    """From here on nothing needs covariances of different pixels."""


_Step = Layer | _EqualPixels


class _Branches(NamedTuple):
    """The stages of a sum of two branches."""

    main: tuple[Any, ...]
    shortcut: tuple[Any, ...]


_Stage = tuple[_Step, ...] | _Branches  # what is compiled at once, or branches


class KernelFunction:
    """The kernel of a network, tile by tile.

    Attributes:
        tile: rows (and columns) of a tile that is fast and takes little memory.
        bytes_per_pair: working memory of a tile over its number of entries.
        seconds_per_pair: of one entry, roughly, on one core.
    """

    def __init__(self, layers: Layers, input_shape: tuple[int, ...], get: Get, dtype: str) -> None:
        self._shape, self._dtype, self._tangent = _working_shape(layers, input_shape), np.dtype(dtype), get == "ntk"
        self._layout = 2 if len(self._shape) == 1 else _ALL if any(map(_pools, layers)) else _EQUAL
        self._stages = _stages(_steps(layers))
        self.tile, self.bytes_per_pair, self.seconds_per_pair = 1024, 40, 1e-8

    def prepare(self, X: np.ndarray) -> Prepared:
        """What an input gives alone, once.

        Args:
            X: (n, …) inputs of ``input_shape``.

        Returns:
            arrays of NumPy, whose first axis is n.
        """
        n = len(X)
        X = np.asarray(X, self._dtype).reshape(n, *self._shape)
        size = min(n, self.tile)  # the last part is filled up, so that one compilation serves all
        filled = np.concatenate([X, np.zeros((-n % size, *self._shape), self._dtype)])
        with self._precision():
            parts = [self._own(filled[start : start + size]) for start in range(0, n, size)]
        terms, own = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:n], *parts)
        return Prepared(X, terms, own)

    def between(self, P: Prepared, P2: Prepared) -> Float[np.ndarray, "n n2"]:
        """The kernel of each input of one tile with each of another.

        Args:
            P: of n inputs.
            P2: of n2 inputs.

        Returns:
            the covariances (or tangent kernel).
        """
        n = len(P.X)
        rows = jax.tree.map(lambda leaf: _inputs_last(leaf)[..., None], P.terms)
        columns = jax.tree.map(lambda leaf: _inputs_last(leaf)[..., None, :], P2.terms)
        X2 = P2.X.T if self._layout == 2 else _inputs_last(P2.X)
        height = self._block(n, len(P2.X))
        blocks = []
        with self._precision():
            for start in range(0, n, height):
                part = slice(start, start + height)
                given = jax.tree.map(lambda leaf, part=part: leaf[..., part, :], rows)
                K = _input_covariances(P.X[part], X2, self._layout)
                blocks.append(np.asarray(self._result(K, (given, columns))[0]))
        return np.concatenate(blocks) if len(blocks) > 1 else blocks[0]

    def within(self, P: Prepared) -> Float[np.ndarray, "n n"]:
        """The kernel of the inputs of one tile with each other.

        Args:
            P: of n inputs.

        Returns:
            exactly symmetric, with each input's own variance on the diagonal.
        """
        upper = np.triu(self.between(P, P), 1)
        return upper + upper.T + np.diag(P.own)

    def _precision(self) -> Any:
        return jax.enable_x64(self._dtype == np.float64)

    def _block(self, n: int, n2: int) -> int:
        return (
            n
            if self._layout == 2
            else max(1, min(n, _BLOCK // (math.prod(self._shape[:2]) ** (self._layout // 2 - 1) * n2)))
        )

    def _own(self, X: np.ndarray) -> tuple[Any, np.ndarray]:
        K, terms = self._result(_own_covariances(X, self._layout), None)
        return jax.tree.map(lambda leaf: np.moveaxis(np.asarray(leaf)[..., 0, :], -1, 0), (terms, K))

    def _result(self, K: Array, given: tuple[Any, Any] | None) -> tuple[Array, Any]:
        state, terms = _follow(self._stages, _State(K, jnp.zeros_like(K) if self._tangent else None), given)
        return state.K if state.Θ is None else state.Θ, terms


def kernel_function(
    layers: Layers,
    input_shape: tuple[int, ...],
    get: Get = "nngp",
    dtype: Literal["float64", "float32"] = "float64",
) -> KernelFunction:
    """The kernel of a network at infinite width.

    Args:
        layers: of the network.
        input_shape: of one input, (height, width) or (height, width, channels) for a network on images.
        get: ``nngp``, the covariances of outputs; or ``ntk``, the neural tangent kernel in the parametrisation of Jacot et
            al. (2018): parameters are N(0, 1), weights are σ_w/√fan-in and biases σ_b times them.
        dtype: of the computation.

    Returns:
        its function for tiles.
    """
    return KernelFunction(layers, input_shape, get, dtype)


def _working_shape(layers: Layers, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(layers[0], Dense):
        return (math.prod(input_shape),)
    if len(input_shape) not in (2, 3):
        raise InvalidInput(
            "X", f"inputs of shape {input_shape} to a network on images", "Pass (n, height, width, channels)."
        )
    return (*input_shape, 1)[:3]


def _steps(layers: Layers) -> tuple[_Step, ...]:
    """Layers without widths, which kernels do not have; pairs of pixels are dropped after the last pooling."""
    steps: list[_Step] = [_without_width(layer) for layer in layers]
    last = max((i for i, layer in enumerate(layers) if _pools(layer)), default=None)
    if last is not None and not isinstance(steps[last], GlobalAveragePool):
        steps.insert(last + 1, _EqualPixels())
    return tuple(steps)


def _pools(layer: Layer) -> bool:
    """Whether covariances of different pixels play a part."""
    if isinstance(layer, Sum):
        return any(map(_pools, layer.main + layer.shortcut))
    return isinstance(layer, Pooling | GlobalAveragePool)


def _without_width(layer: Layer) -> Layer:
    match layer:
        case Dense():
            return replace(layer, units=1)
        case Convolution():
            return replace(layer, channels=1)
        case Sum(main=main, shortcut=shortcut):
            return Sum(tuple(map(_without_width, main)), tuple(map(_without_width, shortcut)))
        case _:
            return layer


def _stages(steps: tuple[_Step, ...]) -> tuple[_Stage, ...]:
    stages: list[_Stage] = []
    for step in steps:
        if isinstance(step, Sum):
            stages.append(_Branches(_stages(step.main), _stages(step.shortcut)))
        elif (
            stages
            and isinstance(step, Dense | Activation | LayerNorm)
            and not isinstance(stages[-1], _Branches)
            and isinstance(stages[-1][-1], Dense | Activation | LayerNorm)
            and len(stages[-1]) < _TOGETHER
        ):
            stages[-1] = (*stages[-1], step)
        else:
            stages.append((step,))
    return tuple(stages)


def _inputs_last(A: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(A, 0, -1))


@functools.partial(jax.jit, static_argnames="layout")
def _input_covariances(X: Array, X2: Array, layout: int) -> Array:
    """x·x'/channels, from X with the inputs first and X2 with the inputs last."""
    if layout == 2:
        return jnp.matmul(X, X2, precision=_HIGHEST) / X.shape[-1]
    product = "nhwc,hwcm->hwnm" if layout == _EQUAL else "nhwc,ijcm->hwijnm"
    return jnp.einsum(product, X, X2, precision=_HIGHEST) / X.shape[-1]


@functools.partial(jax.jit, static_argnames="layout")
def _own_covariances(X: Array, layout: int) -> Array:
    product = {2: "nc,nc->n", _EQUAL: "nhwc,nhwc->hwn", _ALL: "nhwc,nijc->hwijn"}[layout]
    return jnp.einsum(product, X, X, precision=_HIGHEST)[..., None, :] / X.shape[-1]


def _follow(stages: tuple[_Stage, ...], state: _State, given: tuple[Any, Any] | None) -> tuple[_State, Any]:
    """The state after some stages.

    Args:
        stages: to follow.
        state: before them.
        given: terms of the first and the second inputs; or None where each input is followed with itself, and its
            terms are found on the way.

    Returns:
        the state after them, and all terms of the first inputs.
    """
    all_terms = []
    for i, stage in enumerate(stages):
        known = None if given is None else (given[0][i], given[1][i])
        if isinstance(stage, _Branches):
            state, terms = _sum(stage, state, known)
        else:
            state, terms = _run(stage, state, known)
        all_terms.append(terms)
    return state, tuple(all_terms)


def _sum(branches: _Branches, state: _State, given: tuple[Any, Any] | None) -> tuple[_State, Any]:
    states, terms = zip(
        *(
            _follow(branch, state, None if given is None else (given[0][i], given[1][i]))
            for i, branch in enumerate(branches)
        ),
        strict=True,
    )
    return jax.tree.map(jnp.add, *states), terms


@functools.partial(jax.jit, static_argnames="stage")
def _run(stage: tuple[_Step, ...], state: _State, given: tuple[Any, Any] | None) -> tuple[_State, Any]:
    all_terms = []
    for i, step in enumerate(stage):
        terms, terms2 = (_terms(step, state.K),) * 2 if given is None else (given[0][i], given[1][i])
        state = _after(step, state, terms, terms2)
        all_terms.append(terms)
    return state, tuple(all_terms)


def _terms(step: _Step, K: Array) -> Terms:
    """What a step needs of an input, from its own covariances."""
    variance = _equal_pixels(K) if K.ndim == _ALL else K
    match step:
        case Activation(name=name, negative_slope=slope):
            return dual(name, slope).terms(variance)
        case LayerNorm():
            return (1 / jnp.sqrt(variance + _EPS),)
        case _:
            return ()


def _after(step: _Step, state: _State, terms: Terms, terms2: Terms) -> _State:
    """The state after a step, from the terms of the first and of the second inputs."""
    K, Θ = state
    if K.ndim == _ALL:
        terms = tuple(term[:, :, None, None] for term in terms)
    match step:
        case Dense():
            return _affine(step, state)
        case Convolution(size=size, stride=stride, padding=padding):
            area = size * size
            return _affine(step, state.map(lambda A: _window_sums(A, _together(A), size, stride, padding) / area))
        case Activation(name=name, negative_slope=slope):
            expectation, slopes = dual(name, slope).expectations(K, terms, terms2, Θ is not None)
            return _State(expectation, None if Θ is None else Θ * slopes)
        case LayerNorm():
            scale = terms[0] * terms2[0]
            return state.map(lambda A: A * scale)
        case Pooling(operation=operation, size=size, stride=stride):
            area = size**4 if operation == "average" else 1
            return state.map(lambda A: _window_sums(A, ((0,), (1,), (2,), (3,)), size, stride, "valid") / area)
        case GlobalAveragePool():
            return state.map(lambda A: jnp.mean(A, axis=(0, 1, 2, 3)))
        case Flatten():
            return state.map(lambda A: jnp.mean(A, axis=(0, 1)))
        case _EqualPixels():
            return state.map(_equal_pixels)
        case _:
            raise AssertionError(step)


def _equal_pixels(A: Array) -> Array:
    return jnp.einsum("hwhwnm->hwnm", A)


def _affine(layer: Dense | Convolution, state: _State) -> _State:
    r"""K ← σ_b² + σ_w² K, and Θ ← K + σ_w² Θ (Jacot et al. 2018)."""
    K = layer.bias_std**2 + layer.weight_std**2 * state.K
    return _State(K, None if state.Θ is None else K + layer.weight_std**2 * state.Θ)


def _together(A: Array) -> tuple[tuple[int, ...], ...]:
    """The axes along which a filter moves: over both images at once, where there are all pairs of pixels."""
    return ((0, 2), (1, 3)) if A.ndim == _ALL else ((0,), (1,))


def _window_sums(A: Array, groups: tuple[tuple[int, ...], ...], size: int, stride: int, padding: Padding) -> Array:
    """Sums over windows, one group of axes after the other; a window moves along all axes of a group at once."""
    for axes in groups:
        extent = A.shape[axes[0]]
        low, high = lax.padtype_to_pads((extent,), (size,), (stride,), "VALID" if padding == "valid" else "SAME")[0]
        if padding == "circular":
            A = jnp.pad(A, [(low, high) if axis in axes else (0, 0) for axis in range(A.ndim)], mode="wrap")
            extent, low, high = extent + low + high, 0, 0
        out = (extent + low + high - size) // stride + 1
        A = functools.reduce(jnp.add, (_shifted(A, axes, tap - low, stride, out) for tap in range(size)))
    return A


def _shifted(A: Array, axes: tuple[int, ...], shift: int, stride: int, out: int) -> Array:
    """At o, the entry at stride · o + shift along each of the axes, for o < out; 0 outside."""
    extent = A.shape[axes[0]]
    first = max(0, -(shift // stride))
    end = min(out, (extent - 1 - shift) // stride + 1)
    if end <= first:
        return jnp.zeros([out if axis in axes else length for axis, length in enumerate(A.shape)], A.dtype)
    start = [first * stride + shift if axis in axes else 0 for axis in range(A.ndim)]
    stop = [(end - 1) * stride + shift + 1 if axis in axes else length for axis, length in enumerate(A.shape)]
    part = lax.slice(A, start, stop, [stride if axis in axes else 1 for axis in range(A.ndim)])
    return lax.pad(
        part, jnp.zeros((), A.dtype), [(first, out - end, 0) if axis in axes else (0, 0, 0) for axis in range(A.ndim)]
    )
