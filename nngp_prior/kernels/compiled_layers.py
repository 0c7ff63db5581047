"""A network's kernel as stages: units of compilation, and the covariances that pass through them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

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
from nngp_prior.kernels.dual_activations import Terms, dual
from nngp_prior.kernels.footprint import pools
from nngp_prior.schemas.specs.architecture import Padding

VECTORS, EQUAL_PIXELS, ALL_PIXELS = 2, 4, 6  # layouts, by their number of axes
_EPS = 1e-12  # added to variances by layer normalisation
_TOGETHER = 5  # maximum number of elementwise layers compiled as one


class LayerState(NamedTuple):
    """Covariances, and the tangent kernel if requested."""

    K: Array
    Θ: Array | None

    def map(self, function: Callable[[Array], Array]) -> LayerState:
        """Apply a function to each array."""
        return LayerState(function(self.K), None if self.Θ is None else function(self.Θ))


class Deviations(NamedTuple):
    """σ_w and σ_b of all layers: not constants, so that networks that differ in them alone are compiled once."""

    weights: Any
    biases: Any


@dataclass(frozen=True)
class _Affine:
    """Weights with standard deviation σ_w/divisor, and biases."""

    divisor: int = 1


@dataclass(frozen=True)
class _EqualPixels:
    """Marker: later layers need no covariances of different pixels."""


@dataclass(frozen=True)
class _Window:
    """Scaled sums over windows that move along some pixel axes at once; axes that do not exist are skipped."""

    axes: tuple[int, ...]
    size: int
    stride: int
    padding: Padding
    factor: float = 1.0


_Elementwise = _Affine | Activation | LayerNorm
Step = _Elementwise | GlobalAveragePool | Flatten | Sum | _EqualPixels | _Window


class _Branches(NamedTuple):
    """The stages of a sum of two branches."""

    main: tuple[Any, ...]
    shortcut: tuple[Any, ...]


Stage = tuple[Step, ...] | _Branches  # unit of compilation, or branches


def dropping_pairs(layers: Layers) -> tuple[Layer | _EqualPixels, ...]:
    """Insert a marker behind the last pooling, after which a ``flatten`` readout needs equal pixels only."""
    pooling = [i for i, layer in enumerate(layers) if pools(layer)]
    if not pooling or isinstance(layers[pooling[-1]], GlobalAveragePool):
        return layers
    return (*layers[: pooling[-1] + 1], _EqualPixels(), *layers[pooling[-1] + 1 :])


def sizes(stages: tuple[Stage, ...], shape: tuple[int, ...]) -> list[tuple[tuple[Step, ...], int]]:
    """Return each compiled stage with the number of covariances that enter it.

    Args:
        stages: stages of a network.
        shape: shape of the state before them.

    Returns:
        stages and numbers, those of branches in sequence; the last is an empty stage.
    """

    def walk(stages: tuple[Stage, ...], state: Any) -> Any:
        for stage in stages:
            if isinstance(stage, _Branches):
                state, _ = [walk(branch, state) for branch in stage]
            else:
                found.append((stage, state.K.size))
                state = jax.eval_shape(
                    lambda before, stage=stage: _run(stage, before, None, Deviations(1.0, 1.0))[0], state
                )
        return state

    found: list[tuple[tuple[Step, ...], int]] = []
    last = walk(stages, LayerState(jax.ShapeDtypeStruct(shape, jnp.float32), None))  # pyright: ignore[reportArgumentType]
    return [*found, ((), last.K.size)]


def stages_of(layers: tuple[Layer | _EqualPixels, ...]) -> tuple[Stage, ...]:
    """Group layers into stages."""
    stages: list[Stage] = []
    for layer in layers:
        if isinstance(layer, Sum):
            stages.append(_Branches(stages_of(layer.main), stages_of(layer.shortcut)))
            continue
        for step in _steps(layer):
            before = stages[-1] if stages else ()
            if (
                not isinstance(before, _Branches)
                and 0 < len(before) < _TOGETHER
                and all(isinstance(part, _Elementwise) for part in (*before, step))
            ):
                stages[-1] = (*before, step)
            else:
                stages.append((step,))
    return tuple(stages)


def _steps(layer: Layer | _EqualPixels) -> tuple[Step, ...]:
    """Return the steps of a layer, without width and standard deviations. Filters and windows go one axis at a time."""
    match layer:
        case Dense():
            return (_Affine(),)
        case Convolution(size=size, stride=stride, padding=padding):
            moves = tuple(_Window(axes, size, stride, padding) for axes in ((0, 2), (1, 3)))
            return (*moves, _Affine(size))
        case Pooling(operation=operation, size=size, stride=stride):
            factor = 1 / size if operation == "average" else 1.0
            return tuple(_Window((axis,), size, stride, "valid", factor) for axis in range(4))
        case _:
            return (layer,)


def follow(
    stages: tuple[Stage, ...], state: LayerState, given: tuple[Any, Any] | None, deviations: Deviations
) -> tuple[LayerState, Any]:
    """Return the state after some stages.

    Args:
        stages: stages to apply.
        state: state before them.
        given: terms of the first and the second inputs; None to pair each input with itself and compute its terms in
            the process.
        deviations: standard deviations of weights and biases.

    Returns:
        the state after them, and all terms of the first inputs.
    """
    all_terms = []
    for i, stage in enumerate(stages):
        known = None if given is None else (given[0][i], given[1][i])
        if isinstance(stage, _Branches):
            state, terms = _sum(stage, state, known, deviations)
        else:
            state, terms = _run(stage, state, known, deviations)
        all_terms.append(terms)
    return state, tuple(all_terms)


def _sum(
    branches: _Branches, state: LayerState, given: tuple[Any, Any] | None, deviations: Deviations
) -> tuple[LayerState, Any]:
    states, terms = zip(
        *(
            follow(branch, state, None if given is None else (given[0][i], given[1][i]), deviations)
            for i, branch in enumerate(branches)
        ),
        strict=True,
    )
    return jax.tree.map(jnp.add, *states), terms


@functools.partial(jax.jit, static_argnames="stage")
def _run(
    stage: tuple[Step, ...], state: LayerState, given: tuple[Any, Any] | None, deviations: Deviations
) -> tuple[LayerState, Any]:
    all_terms = []
    for i, step in enumerate(stage):
        terms, terms2 = (_terms(step, state.K),) * 2 if given is None else (given[0][i], given[1][i])
        state = _after(step, state, terms, terms2, deviations)
        all_terms.append(terms)
    return state, tuple(all_terms)


def _terms(step: Step, K: Array) -> Terms:
    """Return the terms that a step needs per input, from its own covariances."""
    if not isinstance(step, Activation | LayerNorm):
        return ()
    variance = _equal_pixels(K) if K.ndim == ALL_PIXELS else K
    match step:
        case Activation(name=name, negative_slope=slope):
            return dual(name, slope).terms(variance)
        case LayerNorm():
            return (1 / jnp.sqrt(variance + _EPS),)


def _after(step: Step, state: LayerState, terms: Terms, terms2: Terms, deviations: Deviations) -> LayerState:
    """Return the state after a step, from the terms of the first and of the second inputs."""
    K, Θ = state
    if K.ndim == ALL_PIXELS:
        terms = tuple(term[:, :, None, None] for term in terms)
    match step:
        case _Affine(divisor=divisor):
            # K ← σ_b² + σ_w² K, and Θ ← K + σ_w² Θ (Jacot et al. 2018)
            weight_std = deviations.weights / divisor
            K = deviations.biases**2 + weight_std**2 * K
            return LayerState(K, None if Θ is None else K + weight_std**2 * Θ)
        case _Window():
            return state.map(lambda A: step.factor * _window_sums(A, step))
        case Activation(name=name, negative_slope=slope):
            expectation, slopes = dual(name, slope).expectations(K, terms, terms2, Θ is not None)
            return LayerState(expectation, None if Θ is None or slopes is None else Θ * slopes)
        case LayerNorm():
            scale = terms[0] * terms2[0]
            return state.map(lambda A: A * scale)
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


def _window_sums(A: Array, window: _Window) -> Array:
    axes = [axis for axis in window.axes if axis < A.ndim - 2]
    extent = A.shape[axes[0]]
    size, stride = window.size, window.stride
    low, high = lax.padtype_to_pads((extent,), (size,), (stride,), "VALID" if window.padding == "valid" else "SAME")[0]
    if window.padding == "circular":
        A = jnp.pad(A, [(low, high) if axis in axes else (0, 0) for axis in range(A.ndim)], mode="wrap")
        extent, low, high = extent + low + high, 0, 0
    out = (extent + low + high - size) // stride + 1
    if out < 1:
        raise InvalidInput(
            "X", f"windows of {size} × {size} where {extent} pixels are left", "Use larger images or fewer layers."
        )
    shape = [out if axis in axes else length for axis, length in enumerate(A.shape)]
    # Axes behind the last one that moves are merged: long inner loops.
    A = A.reshape(*A.shape[: axes[-1] + 1], -1)
    total = functools.reduce(jnp.add, (_shifted(A, axes, tap - low, stride, out) for tap in range(size)))
    return total.reshape(shape)


def _shifted(A: Array, axes: list[int], shift: int, stride: int, out: int) -> Array:
    """Return A at stride · o + shift along each of the axes, for o < out; 0 outside."""
    extent = A.shape[axes[0]]
    first = max(0, -(shift // stride))
    end = min(out, (extent - 1 - shift) // stride + 1)
    if end <= first:
        return jnp.zeros([out if axis in axes else length for axis, length in enumerate(A.shape)], A.dtype)
    start = [first * stride + shift if axis in axes else 0 for axis in range(A.ndim)]
    stop = [(end - 1) * stride + shift + 1 if axis in axes else length for axis, length in enumerate(A.shape)]
    part = lax.slice(A, start, stop, [stride if axis in axes else 1 for axis in range(A.ndim)])
    pads = [(first, out - end, 0) if axis in axes else (0, 0, 0) for axis in range(A.ndim)]
    return lax.pad(part, jnp.zeros((), A.dtype), pads)
