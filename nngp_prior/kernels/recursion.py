r"""Infinite-width kernels, layer by layer, for tiles of inputs × inputs.

A state holds covariances K of units, and for the NTK also the tangent kernel Θ, in one of three layouts; the last two
axes are those of the first and of the second inputs:

- vectors: (n, n2);
- equal pixels: (height, width, n, n2). All that ``flatten`` readouts need;
- all pairs of pixels: (height, width, height, width, n, n2). Pooling needs them.

Quantities of single inputs, from their own variances in each layer with an activation, are computed once per input, not
per pair. Layers are compiled separately (consecutive elementwise ones together), so that equal layers are compiled
once; XLA would otherwise recompute an activation's dual at each tap of the convolution after it.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from nngp_prior.architectures.layers import Convolution, Dense, Layers
from nngp_prior.errors import InvalidInput
from nngp_prior.kernels.compiled_layers import (
    ALL_PIXELS,
    EQUAL_PIXELS,
    VECTORS,
    Deviations,
    LayerState,
    dropping_pairs,
    follow,
    sizes,
    stages_of,
)
from nngp_prior.kernels.footprint import BUFFERS, height_of, pools, tile_of
from nngp_prior.kernels.job import Get

_HIGHEST = lax.Precision.HIGHEST
_ALONG = {"d-weight-std": (1.0, 0.0), "d-bias-std": (0.0, 1.0)}  # directions in σ_w and σ_b


class PreparedInputs(NamedTuple):
    """Per-input data for tiles; all arrays have the inputs as first axis, so that a tile's are slices.

    Attributes:
        X: (n, d) or (n, height, width, channels) inputs, divided by √d or √channels.
        terms: for each layer, the terms that its dual needs per input; for a derivative, these and their derivatives.
        own: (n,) the kernel (or its derivative) of each input with itself.
    """

    X: Any
    terms: Any
    own: Any


class KernelFunction:
    """The kernel of a network, tile by tile.

    Attributes:
        tile: rows (and columns) of a tile that is fast and takes little memory.
        bytes_per_pair: working memory of a tile over its number of entries.
    """

    def __init__(self, layers: Layers, input_shape: tuple[int, ...], get: Get, dtype: str) -> None:
        self._shape, self._dtype, self._tangent = _working_shape(layers, input_shape), np.dtype(dtype), get == "ntk"
        weighted = next(layer for layer in layers if isinstance(layer, Dense | Convolution))  # all have the same
        self._deviations = Deviations(*map(self._dtype.type, (weighted.weight_std, weighted.bias_std)))
        self._along = _ALONG.get(get)
        self._layout = VECTORS if len(self._shape) == 1 else ALL_PIXELS if any(map(pools, layers)) else EQUAL_PIXELS
        self._stages = stages_of(dropping_pairs(layers))
        stages = sizes(self._stages, (*self._shape[:2] * (self._layout // 2 - 1), 1, 1))
        largest = max(size for _, size in stages)
        self.tile = tile_of(largest)
        self._height = self.tile if self._layout == VECTORS else height_of(largest, self.tile)
        buffers = BUFFERS * (1 + (get != "nngp")) * largest * self._height / self.tile
        self.bytes_per_pair = math.ceil((buffers + 2) * self._dtype.itemsize)

    def prepare(self, X: np.ndarray) -> PreparedInputs:
        """Compute the per-input data.

        Args:
            X: (n, …) inputs of ``input_shape``.

        Returns:
            NumPy arrays with first axis n.
        """
        n = len(X)
        X = np.asarray(X, self._dtype).reshape(n, *self._shape) / self._dtype.type(math.sqrt(self._shape[-1]))
        size = min(n, self.tile)  # the last part is padded, so that one compilation serves all
        filled = np.concatenate([X, np.zeros((-n % size, *self._shape), self._dtype)])
        with self._precision():
            parts = [self._own(filled[start : start + size]) for start in range(0, n, size)]
        terms, own = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:n], *parts)
        return PreparedInputs(X, terms, own)

    def between(self, P: PreparedInputs, P2: PreparedInputs) -> Float[np.ndarray, "n n2"]:
        """Compute the kernel of each input of one tile with each of another.

        Args:
            P: data of n inputs.
            P2: data of n2 inputs.

        Returns:
            the covariances (or tangent kernel, or derivative).
        """
        n = len(P.X)
        vectors = self._layout == VECTORS
        rows = jax.tree.map(lambda leaf: _inputs_last(leaf)[..., None], P.terms)
        columns = jax.tree.map(lambda leaf: _inputs_last(leaf)[..., None, :], P2.terms)
        blocks = []
        with self._precision():
            columns = jax.device_put(columns)
            X2 = P2.X if vectors else jax.device_put(_inputs_last(P2.X))
            for start in range(0, n, self._height):
                part = slice(start, start + self._height)
                given = jax.tree.map(lambda leaf, part=part: leaf[..., part, :], rows)
                K = _vector_covariances(P.X[part], X2) if vectors else _pixel_covariances(P.X[part], X2, self._layout)
                blocks.append(np.asarray(self._result(K, (given, columns))[0]))
        return np.concatenate(blocks) if len(blocks) > 1 else blocks[0]

    def within(self, P: PreparedInputs) -> Float[np.ndarray, "n n"]:
        """Compute the kernel of the inputs of one tile with each other.

        Args:
            P: data of n inputs.

        Returns:
            exactly symmetric, with each input's own variance on the diagonal.
        """
        K = self.between(P, P)
        K = (K + K.T) / 2
        np.fill_diagonal(K, P.own)
        return K

    def _precision(self) -> Any:
        return jax.enable_x64(self._dtype == np.float64)

    def _own(self, X: np.ndarray) -> tuple[Any, np.ndarray]:
        K, terms = self._result(_own_covariances(X, self._layout), None)
        return jax.tree.map(lambda leaf: np.moveaxis(np.asarray(leaf)[..., 0, :], -1, 0), (terms, K))

    def _result(self, K: Array, given: tuple[Any, Any] | None) -> tuple[Array, Any]:
        if self._along is not None:
            return self._derivative(K, given, Deviations(*map(self._dtype.type, self._along)))
        state = LayerState(K, jnp.zeros_like(K) if self._tangent else None)
        state, terms = follow(self._stages, state, given, self._deviations)
        return state.K if state.Θ is None else state.Θ, terms

    def _derivative(self, K: Array, given: tuple[Any, Any] | None, along: Deviations) -> tuple[Array, Any]:
        """Return the derivative (forward mode), and the terms of the inputs with their derivatives."""

        def network(deviations: Deviations, terms: tuple[Any, Any] | None) -> tuple[LayerState, Any]:
            return follow(self._stages, LayerState(K, None), terms, deviations)

        rows, columns = given or ((None, None), (None, None))
        terms = [None if part is None else (part, part2) for part, part2 in zip(rows, columns, strict=True)]
        (_, found), (state, derivatives) = jax.jvp(network, (self._deviations, terms[0]), (along, terms[1]))
        return state.K, (found, derivatives)


def kernel_function(
    layers: Layers,
    input_shape: tuple[int, ...],
    get: Get = "nngp",
    dtype: Literal["float64", "float32"] = "float64",
) -> KernelFunction:
    """Return the kernel function of a network at infinite width.

    Args:
        layers: layers of the network.
        input_shape: shape of one input, (height, width) or (height, width, channels) for a network on images.
        get: ``nngp``, the covariances of outputs; ``ntk``, the neural tangent kernel in the parametrisation of
            Jacot et al. (2018): parameters are N(0, 1), weights are σ_w/√fan-in and biases σ_b times them; or
            ``d-weight-std`` or ``d-bias-std``, the derivative of ``nngp`` with respect to σ_w or σ_b of all layers.
        dtype: dtype of the computation.

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


def _inputs_last(A: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(A, 0, -1))


def _vector_covariances(X: np.ndarray, X2: np.ndarray) -> Array:
    """Compute all x·x'. On the CPU NumPy's BLAS takes three quarters of XLA's time."""
    if jax.default_backend() == "cpu":
        with np.errstate(over="ignore", invalid="ignore"):  # the check of the tiles names the input
            return jnp.asarray(X @ X2.T)
    return jnp.matmul(X, X2.T, precision=_HIGHEST)


@functools.partial(jax.jit, static_argnames="layout")
def _pixel_covariances(X: Array, X2: Array, layout: int) -> Array:
    """Compute all x·x' of pixels, from X with the images first and X2 with the images last."""
    product = "nhwc,hwcm->hwnm" if layout == EQUAL_PIXELS else "nhwc,ijcm->hwijnm"
    return jnp.einsum(product, X, X2, precision=_HIGHEST)


@functools.partial(jax.jit, static_argnames="layout")
def _own_covariances(X: Array, layout: int) -> Array:
    product = {VECTORS: "nc,nc->n", EQUAL_PIXELS: "nhwc,nhwc->hwn", ALL_PIXELS: "nhwc,nijc->hwijn"}[layout]
    return jnp.einsum(product, X, X, precision=_HIGHEST)[..., None, :]
