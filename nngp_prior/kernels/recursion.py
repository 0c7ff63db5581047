r"""Infinite-width kernels, layer by layer, for tiles of inputs × inputs.

A state holds covariances K of units, and for the NTK also the tangent kernel Θ, in one of three layouts; the last axis
is that of the second inputs:

- vectors: (n, n2), and (n2,) once an image has become a vector;
- equal pixels: (height, width, n2), of one first input. All that ``flatten`` readouts need;
- all pairs of pixels: (height, width, height, width, n2), of one first input. Pooling needs them.

What an input's own variances give, in each layer with an activation, is computed once an input, not once a pair.
"""

from __future__ import annotations

import functools
import itertools
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
_UNROLLED = 4  # as many repetitions and more are a loop
_EQUAL, _ALL = 3, 5  # axes of the layouts of images


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


@dataclass(frozen=True)
class _Repeat:
    """The same layers many times, compiled once."""

    layers: tuple[Layer, ...]
    times: int


_Step = Layer | _EqualPixels | _Repeat


class KernelFunction:
    """The kernel of a network, tile by tile.

    Attributes:
        tile: rows (and columns) of a tile that is fast and takes little memory.
        bytes_per_pair: working memory of a tile over its number of entries.
        seconds_per_pair: of one entry, roughly, on one core.
    """

    def __init__(self, layers: Layers, input_shape: tuple[int, ...], get: Get, dtype: str) -> None:
        self._steps, self._shape, self._dtype = _steps(layers), _working_shape(layers, input_shape), np.dtype(dtype)
        self._tangent = get == "ntk"
        self.tile, self.bytes_per_pair, self.seconds_per_pair = 1024, 40, 1e-8
        self._prepare, self._between, self._within = (jax.jit(f) for f in (self._own, self._tile, self._square))

    def prepare(self, X: np.ndarray) -> Prepared:
        """What an input gives alone, once.

        Args:
            X: (n, …) inputs of ``input_shape``.

        Returns:
            arrays of NumPy, whose first axis is n.
        """
        n = len(X)
        X = np.asarray(X, self._dtype).reshape(n, *self._shape)
        parts = []
        with self._precision():
            for start in range(0, n, self.tile):
                part = X[start : start + self.tile]
                if start > 0 and len(part) < self.tile:  # one compilation for all
                    part = np.concatenate([part, np.zeros((self.tile - len(part), *self._shape), self._dtype)])
                parts.append(jax.tree.map(np.asarray, self._prepare(part)))
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
        with self._precision():
            return np.asarray(self._between(P, P2))

    def within(self, P: Prepared) -> Float[np.ndarray, "n n"]:
        """The kernel of the inputs of one tile with each other.

        Args:
            P: of n inputs.

        Returns:
            exactly symmetric, with each input's own variance on the diagonal.
        """
        with self._precision():
            return np.asarray(self._within(P))

    def _precision(self) -> Any:
        return jax.enable_x64(self._dtype == np.float64)

    def _own(self, X: Array) -> tuple[Any, Array]:
        channels = X.shape[-1]
        if X.ndim == 2 or not _pools(self._steps):
            K = jnp.moveaxis(jnp.mean(X * X, axis=-1), 0, -1)
        else:
            K = jnp.einsum("nhwc,nijc->hwijn", X, X, precision=lax.Precision.HIGHEST) / channels
        state, terms = _follow(self._steps, self._begin(K), None)
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, 0), (terms, self._result(state)))

    def _tile(self, P: Prepared, P2: Prepared) -> Array:
        columns = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -1), P2.terms)

        def against(K: Array, terms: Any) -> Array:
            rows = jax.tree.map(lambda leaf: leaf[..., None], terms)
            return self._result(_follow(self._steps, self._begin(K), (rows, columns))[0])

        if len(self._shape) == 1:
            K = jnp.matmul(P.X, P2.X.T, precision=lax.Precision.HIGHEST) / self._shape[0]
            return against(K, jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -1), P.terms))
        X2 = jnp.moveaxis(P2.X, 0, -1)
        if _pools(self._steps):
            return lax.map(lambda row: against(_all_pixels(row[0], X2), row[1]), (P.X, P.terms))
        return lax.map(lambda row: against(jnp.mean(row[0][..., None] * X2, axis=2), row[1]), (P.X, P.terms))

    def _square(self, P: Prepared) -> Array:
        K = self._tile(P, P)
        i = jnp.arange(len(K))
        upper = jnp.where(i[:, None] < i, K, K.T)
        return jnp.where(i[:, None] == i, P.own, upper)

    def _begin(self, K: Array) -> _State:
        return _State(K, jnp.zeros_like(K) if self._tangent else None)

    def _result(self, state: _State) -> Array:
        return state.K if state.Θ is None else state.Θ


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
        get: ``nngp``, the covariances of outputs; or ``ntk``, the neural tangent kernel, in the parametrisation of Jacot
            et al. (2018): weights are σ_w/√fan-in times, biases σ_b times, parameters that are N(0, 1).
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
    """Layers as they are followed: pixel pairs are dropped after the last pooling, and repetitions are found."""
    steps: list[_Step] = [_without_width(layer) for layer in layers]
    last = max((i for i, step in enumerate(steps) if _pools((step,))), default=None)
    if last is not None and not isinstance(steps[last], GlobalAveragePool):
        steps.insert(last + 1, _EqualPixels())
    found: list[_Step] = []
    while steps:
        period, times = max(
            ((period, _times(steps, period)) for period in range(1, 5)), key=lambda found: found[0] * found[1]
        )
        if times < _UNROLLED:
            found.append(steps.pop(0))
        else:
            found.append(_Repeat(tuple(steps[:period]), times))
            del steps[: period * times]
    return tuple(found)


def _times(steps: list[_Step], period: int) -> int:
    """How many times the first steps come in a row, if they keep shapes; 1 if they do not."""
    block = steps[:period]
    if not all(map(_keeps_shape, block)):
        return 1
    repeated = itertools.takewhile(lambda i: steps[i : i + period] == block, range(0, len(steps) - period + 1, period))
    return sum(1 for _ in repeated)


def _keeps_shape(step: _Step) -> bool:
    match step:
        case Dense() | Activation() | LayerNorm():
            return True
        case Convolution(stride=stride, padding=padding):
            return stride == 1 and padding != "valid"
        case Sum(main=main, shortcut=shortcut):
            return all(map(_keeps_shape, (*main, *shortcut)))
        case _:
            return False


def _pools(steps: tuple[_Step, ...]) -> bool:
    """Whether covariances of different pixels play a part."""
    return any(
        isinstance(step, Pooling | GlobalAveragePool) or (isinstance(step, Sum) and _pools(step.main + step.shortcut))
        for step in steps
    )


def _without_width(layer: Layer) -> Layer:
    match layer:
        case Dense():
            return replace(layer, units=1)
        case Convolution():
            return replace(layer, channels=1)
        case _:
            return layer


def _all_pixels(x: Array, X2: Array) -> Array:
    """Covariances of all pixels of one image with all of n2 others, (height, width, height, width, n2)."""
    return jnp.tensordot(x, jnp.moveaxis(X2, 2, 0), 1, precision=lax.Precision.HIGHEST) / x.shape[-1]


def _follow(steps: tuple[_Step, ...], state: _State, given: tuple[Any, Any] | None) -> tuple[_State, Any]:
    """The state after some steps.

    Args:
        steps: to follow.
        state: before them.
        given: terms of the first and the second inputs; or None where each input is followed with itself, and its
            terms are found on the way.

    Returns:
        the state after them, and all terms of the first inputs.
    """
    terms = []
    for i, step in enumerate(steps):
        known = None if given is None else (given[0][i], given[1][i])
        match step:
            case Sum(main=main, shortcut=shortcut):
                parts = [None if known is None else (known[0][j], known[1][j]) for j in (0, 1)]
                one, terms_of_one = _follow(main, state, parts[0])
                other, terms_of_other = _follow(shortcut, state, parts[1])
                state = jax.tree.map(jnp.add, one, other)
                terms.append((terms_of_one, terms_of_other))
            case _Repeat(layers=layers, times=times):
                state, of_all = lax.scan(lambda s, t, layers=layers: _follow(layers, s, t), state, known, times)
                terms.append(of_all)
            case _:
                rows, columns = known or (_terms(step, state.K),) * 2
                state = _after(step, state, rows, columns)
                terms.append(rows)
    return state, tuple(terms)


def _terms(step: _Step, K: Array) -> Terms:
    """What a step needs of an input, from its own covariances."""
    variance = jnp.einsum("hwhwn->hwn", K) if K.ndim == _ALL else K
    match step:
        case Activation(name=name, negative_slope=slope):
            return dual(name, slope).terms(variance)
        case LayerNorm():
            return (1 / jnp.sqrt(variance + _EPS),)
        case _:
            return ()


def _after(step: _Step, state: _State, rows: Terms, columns: Terms) -> _State:
    """The state after a step, from the terms of the first and of the second inputs."""
    K, Θ = state
    if K.ndim == _ALL:
        rows = tuple(term[:, :, None, None] for term in rows)
    match step:
        case Dense():
            return _affine(step, state)
        case Convolution(size=size, stride=stride, padding=padding):
            area = size * size
            return _affine(step, state.map(lambda A: _window_sums(A, _together(A), size, stride, padding) / area))
        case Activation(name=name, negative_slope=slope):
            expectation, slopes = dual(name, slope).expectations(K, rows, columns, Θ is not None)
            return _State(expectation, None if Θ is None else Θ * slopes)
        case LayerNorm():
            scale = rows[0] * columns[0]
            return state.map(lambda A: A * scale)
        case Pooling(operation=operation, size=size, stride=stride):
            area = size**4 if operation == "average" else 1
            return state.map(lambda A: _window_sums(A, ((0,), (1,), (2,), (3,)), size, stride, "valid") / area)
        case GlobalAveragePool():
            return state.map(lambda A: jnp.mean(A, axis=(0, 1, 2, 3)))
        case Flatten():
            return state.map(lambda A: jnp.mean(A, axis=(0, 1)))
        case _EqualPixels():
            return state.map(lambda A: jnp.einsum("hwhwn->hwn", A))
        case _:
            raise AssertionError(step)


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
