r"""Factorisations on an accelerator: :mod:`nngp_prior.numerics.linalg` with JAX arrays in the device's memory.

Matrices are cut into at most eight panels, and a library factorisation or solve is applied to one panel at a time:
memory can be counted, and no such routine gets more than 2³¹ numbers, which some count with 32 bits (n > 46,340).
Matrices are overwritten in place (donated), and K is copied to the device in blocks of rows.

Peaks for n = 50,000, where a float64 matrix takes 20 GB and a float32 one 10 GB. The number at the end of a line is for
copies of operands, each a panel or a quarter of a matrix, half a matrix together.

- correlations and their factor: 20 GB in place + 10;
- EP's sweeps in float32: L 20, Σ 10, a product as large as Σ 10;
- the factor after EP in float32: L 20, I + LᵀSL and its factor in the same 10, the result 10, + 5; and 10 more for
  the second one, as the first one stays. In float64: 3 × 20 + 10;
- particles: L 20, two factors of 10, and 16 bytes per coordinate and particle: 6.6 GB for 8,192 particles.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.lax.linalg import triangular_solve
from jaxtyping import Float, Int, Integer

_PANELS, _NARROWEST = 8, 512
_ROWS = 512  # rows of K copied at a time
_product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)  # float32 is float32, not a shorter type

P = ParamSpec("P")
T = TypeVar("T")


def in_float64(function: Callable[P, T]) -> Callable[P, T]:
    """Enable float64 in JAX inside a function, in the calling thread only."""

    @functools.wraps(function)
    def with_float64(*args: P.args, **kwargs: P.kwargs) -> T:
        with jax.enable_x64(True):
            return function(*args, **kwargs)

    return with_float64


class Device:
    """Linear algebra of one estimate, on JAX's default device."""

    on_device = True

    @in_float64
    def correlation(
        self,
        K: Float[np.ndarray, "n n"],
        kept: Integer[np.ndarray, " m"],
        scale: Float[np.ndarray, " m"],
        dtype: type[np.floating] = np.float64,
    ) -> Float[Array, "m m"]:
        """As :func:`nngp_prior.numerics.backends.correlation`."""
        m = len(kept)
        ordered = np.array_equal(kept, np.arange(len(K)))
        C, on_device = jnp.zeros((m, m), dtype), jnp.asarray(scale)
        for start in range(0, m, _ROWS):
            rows = slice(start, min(start + _ROWS, m))
            C = _set_correlations(C, K[rows] if ordered else K[kept[rows]][:, kept], on_device, start)
        return C

    @in_float64
    def covariance(self, L: Float[Array, "m rank"], signs: Float[np.ndarray, " m"]) -> Float[Array, "m m"]:
        """Return diag(signs) L Lᵀ diag(signs)."""
        return _covariance(L, signs)

    @in_float64
    def place(self, L: Float[np.ndarray, "m rank"]) -> Float[Array, "m rank"]:
        """Copy a matrix from the host to the device."""
        A = jnp.zeros(L.shape, L.dtype)
        for start in range(0, len(L), _ROWS):
            A = _set_rows(A, np.ascontiguousarray(L[start : start + _ROWS]), start)
        return A

    def to_host(self, A: Float[Array, "m rank"]) -> Float[np.ndarray, "m rank"]:
        """Copy a matrix from the device to the host, in Fortran order."""
        return np.asfortranarray(A)

    @in_float64
    def cholesky(self, C: Float[Array, "m m"]) -> Float[Array, "m m"] | None:
        """As :func:`nngp_prior.numerics.linalg.cholesky`; C is overwritten."""
        L = _cholesky(C)
        return L if np.all(np.isfinite(self.diagonal(L))) else None

    @in_float64
    def posterior_factor(
        self,
        L: Float[Array, "m rank"],
        precision: Float[np.ndarray, " m"],
        dtype: type[np.floating] = np.float64,
    ) -> tuple[Float[Array, "m rank"], float]:
        """As :func:`nngp_prior.numerics.linalg.posterior_factor`."""
        reversed_R = _cholesky(_reversed_gram(L, jnp.sqrt(precision), dtype))
        log_determinant = 2 * float(np.log(self.diagonal(reversed_R), dtype=np.float64).sum())
        return _divide(L, reversed_R), log_determinant

    @in_float64
    def row_squares(self, L: Float[Array, "m rank"]) -> Float[np.ndarray, " m"]:
        """Return the diagonal of L Lᵀ, in float64."""
        return np.asarray(_row_squares(L))

    @in_float64
    def covariance_vector(self, L: Float[Array, "m rank"], x: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
        """Return L Lᵀ x, in the precision of L."""
        return np.asarray(_covariance_vector(L, x), dtype=np.float64)

    @in_float64
    def multiply(self, L: Float[Array, "m rank"], Z: Float[np.ndarray, "rank k"]) -> Float[np.ndarray, "m k"]:
        """Return L Z, accumulated in float64."""
        return np.asarray(jnp.matmul(L, Z, preferred_element_type=jnp.float64, precision=lax.Precision.HIGHEST))

    @in_float64
    def solve(self, L: Float[Array, "m rank"], B: Float[np.ndarray, "rank k"]) -> Float[np.ndarray, "rank k"]:
        """Solve L₁ Z = B, L₁ the leading square part of L."""
        return np.asarray(triangular_solve(L[: L.shape[1]], jnp.asarray(B), left_side=True, lower=True))

    @in_float64
    def diagonal(self, L: Float[Array, "m rank"]) -> Float[np.ndarray, " rank"]:
        """Return the diagonal of L."""
        return np.asarray(_diagonal(L))

    @in_float64
    def rows(self, L: Float[Array, "m rank"], start: int, stop: int) -> Float[Array, "some rank"]:
        """Return some rows of L; L itself if all are requested, which avoids a copy."""
        return L if (start, stop) == (0, len(L)) else L[start:stop]

    @in_float64
    def block(self, L: Float[Array, "m rank"], coordinates: slice) -> Float[np.ndarray, "size size"]:
        """Return a block on the diagonal of L."""
        return np.asarray(_block(L, coordinates.start, size=coordinates.stop - coordinates.start))


def _panels(n: int) -> list[tuple[int, int]]:
    width = max(_NARROWEST, -(-n // _PANELS))
    return [(start, min(start + width, n)) for start in range(0, n, width)]


@functools.partial(jax.jit, donate_argnums=0)
def _set_rows(A: Array, rows: Float[np.ndarray, "some columns"], start: Int[Array, ""]) -> Array:
    return lax.dynamic_update_slice_in_dim(A, rows.astype(A.dtype), start, 0)


@functools.partial(jax.jit, donate_argnums=0)
def _set_correlations(
    C: Array, rows: Float[np.ndarray, "some m"], scale: Float[Array, " m"], start: Int[Array, ""]
) -> Array:
    own = start + jnp.arange(len(rows))
    values = rows * (scale[own][:, None] * scale)
    values = jnp.where(own[:, None] == jnp.arange(len(scale)), 1.0, values)  # noise included, and exact
    return lax.dynamic_update_slice_in_dim(C, values.astype(C.dtype), start, 0)


@functools.partial(jax.jit, donate_argnums=0)
def _cholesky(A: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Return the lower factor, in place, of a matrix with a valid lower triangle; not finite on the diagonal if none.

    Columns are processed panel by panel: subtract the earlier columns' contribution, then a small factor and solve.

    Returns:
        the factor, 0 above its diagonal.
    """
    for start, stop in _panels(len(A)):
        panel = A[start:, start:stop] - _product(A[start:, :start], A[start:stop, :start].T)
        top = lax.linalg.cholesky(panel[: stop - start], symmetrize_input=False)
        A = A.at[start:stop, start:stop].set(top)
        if stop < len(A):
            below = triangular_solve(top, panel[stop - start :], left_side=False, lower=True, transpose_a=True)
            A = A.at[stop:, start:stop].set(below).at[start:stop, stop:].set(0)
    return A


@functools.partial(jax.jit, static_argnames="dtype")
def _reversed_gram(L: Float[Array, "m rank"], root: Float[Array, " m"], dtype: type) -> Float[Array, "rank rank"]:
    """Return I + Lᵀ S L with rows and columns reversed: its lower triangle, and the rest of each panel."""
    rank = L.shape[1]
    gram = jnp.zeros((rank, rank), dtype)
    for start, stop in _panels(rank):
        rows = (L[start:, :stop] * root[start:, None]).astype(dtype)
        columns = _product(rows.T, rows[:, start:])
        gram = gram.at[rank - stop :, rank - stop : rank - start].set(columns[::-1, ::-1])
    on_diagonal = jnp.arange(rank)
    return gram.at[on_diagonal, on_diagonal].add(1)


@jax.jit
def _divide(L: Float[Array, "m rank"], F: Float[Array, "rank rank"]) -> Float[Array, "m rank"]:
    """Solve X (J Fᵀ J) = L, J reversing the order, hence (X J) Fᵀ = L J: a strip of rows at a time, by panels.

    The first ``stop`` rows of L are 0 from column ``stop`` on, so are those of X.

    Returns:
        X.
    """
    m, rank = L.shape
    X = jnp.zeros(L.shape, F.dtype)
    strips = [(start, stop, stop) for start, stop in _panels(rank)]
    strips += [(rank + start, rank + stop, rank) for start, stop in _panels(m - rank)]
    for start, stop, columns in strips:
        first = rank - columns
        B = L[start:stop, :columns].astype(F.dtype)[:, ::-1]
        Z = jnp.zeros_like(B)
        for left, right in _panels(columns):
            rows = F[first + left : first + right, first : first + right]
            rest = B[:, left:right] - _product(Z[:, :left], rows[:, :left].T)
            solved = triangular_solve(rows[:, left:], rest, left_side=False, lower=True, transpose_a=True)
            Z = Z.at[:, left:right].set(solved)
        # Without the barrier XLA reverses the operands of Z instead, which fails for the result of a solve.
        X = X.at[start:stop, :columns].set(lax.optimization_barrier(Z)[:, ::-1])
    return X


@jax.jit
def _covariance(L: Float[Array, "m rank"], signs: Float[Array, " m"]) -> Float[Array, "m m"]:
    signed = L * signs[:, None].astype(L.dtype)
    return jnp.matmul(signed, signed.T, precision=lax.Precision.HIGHEST)


@jax.jit
def _row_squares(L: Float[Array, "m rank"]) -> Float[Array, " m"]:
    return jnp.sum(jnp.square(L.astype(jnp.float64)), axis=1)


@jax.jit
def _covariance_vector(L: Float[Array, "m rank"], x: Float[Array, " m"]) -> Float[Array, " m"]:
    return _product(L, _product(x.astype(L.dtype), L))


@jax.jit
def _diagonal(L: Float[Array, "m rank"]) -> Float[Array, " rank"]:
    on_diagonal = jnp.arange(L.shape[1])
    return L[on_diagonal, on_diagonal]


@functools.partial(jax.jit, static_argnames="size")
def _block(L: Float[Array, "m rank"], start: Int[Array, ""], size: int) -> Float[Array, "size size"]:
    return lax.dynamic_slice(L, (start, start), (size, size))
