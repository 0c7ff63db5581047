"""Linear algebra of an estimate's large matrices, on the host or on a device.

Both have the same methods; :mod:`nngp_prior.numerics.device`, and with it JAX, is imported only if it is chosen.
"""

from __future__ import annotations

import functools
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Integer
from scipy.linalg import get_blas_funcs, solve_triangular

from nngp_prior.numerics import linalg

_ROWS = 512  # rows of K processed at a time


@runtime_checkable
class Algebra(Protocol):
    """Operations on large matrices; only these methods access their entries.

    Matrices are NumPy arrays on the host and JAX arrays on a device; vectors and small blocks are NumPy's.
    """

    @property
    def on_device(self) -> bool:
        """True if matrices are JAX arrays."""
        ...

    def correlation(
        self, K: np.ndarray, kept: np.ndarray, scale: np.ndarray, dtype: type[np.floating] = np.float64
    ) -> Any:
        """As :func:`correlation`, the lower triangle at least."""
        ...

    def covariance(self, L: Any, signs: np.ndarray) -> Any:
        """Return diag(signs) L Lᵀ diag(signs), the lower triangle at least."""
        ...

    def place(self, L: np.ndarray) -> Any:
        """Copy a matrix from the host to the device."""
        ...

    def to_host(self, A: Any) -> np.ndarray:
        """Copy a matrix from the device to the host."""
        ...

    def cholesky(self, C: Any) -> Any:
        """As :func:`nngp_prior.numerics.linalg.cholesky`."""
        ...

    def posterior_factor(
        self, L: Any, precision: np.ndarray, dtype: type[np.floating] = np.float64
    ) -> tuple[Any, float]:
        """As :func:`nngp_prior.numerics.linalg.posterior_factor`."""
        ...

    def row_squares(self, L: Any) -> np.ndarray:
        """Return the diagonal of L Lᵀ, in float64."""
        ...

    def covariance_vector(self, L: Any, x: np.ndarray) -> np.ndarray:
        """Return L Lᵀ x, in the precision of L."""
        ...

    def multiply(self, L: Any, Z: np.ndarray) -> np.ndarray:
        """Return L Z in float64, for a few columns Z."""
        ...

    def solve(self, L: Any, B: np.ndarray) -> np.ndarray:
        """Solve L₁ Z = B in float64, L₁ the leading square part of L, for a few columns B."""
        ...

    def diagonal(self, L: Any) -> np.ndarray:
        """Return the diagonal of L."""
        ...

    def rows(self, L: Any, start: int, stop: int) -> Any:
        """Return some rows of L."""
        ...

    def block(self, L: Any, coordinates: slice) -> np.ndarray:
        """Return a block on the diagonal of L."""
        ...


class Host:
    """Linear algebra on the host: NumPy, and SciPy's BLAS and LAPACK."""

    on_device = False
    cholesky = staticmethod(linalg.cholesky)
    posterior_factor = staticmethod(linalg.posterior_factor)

    def correlation(
        self, K: np.ndarray, kept: np.ndarray, scale: np.ndarray, dtype: type[np.floating] = np.float64
    ) -> np.ndarray:
        """As :func:`correlation`."""
        return correlation(K, kept, scale, dtype)

    def covariance(self, L: np.ndarray, signs: np.ndarray) -> np.ndarray:
        """Return diag(signs) L Lᵀ diag(signs), the lower triangle."""
        (syrk,) = get_blas_funcs(("syrk",), dtype=L.dtype)
        Sigma = syrk(1.0, L, lower=1)
        signs = signs.astype(L.dtype)
        Sigma *= signs
        Sigma *= signs[:, None]
        return Sigma

    def place(self, L: np.ndarray) -> np.ndarray:
        """Return the matrix itself."""
        return L

    def to_host(self, A: np.ndarray) -> np.ndarray:
        """Return the matrix itself."""
        return A

    def row_squares(self, L: np.ndarray) -> np.ndarray:
        """Return the diagonal of L Lᵀ, in float64."""
        return np.einsum("ij,ij->i", L, L).astype(np.float64)

    def covariance_vector(self, L: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return L Lᵀ x, in the precision of L."""
        return linalg.matrix_vector(L, linalg.matrix_vector(L, x, transposed=True)).astype(np.float64)

    def multiply(self, L: np.ndarray, Z: np.ndarray) -> np.ndarray:
        """Return L Z in float64, by row blocks, so that no float64 copy of L is made."""
        return np.concatenate([L[rows].astype(np.float64) @ Z for rows in row_blocks(len(L))])

    def solve(self, L: np.ndarray, B: np.ndarray) -> np.ndarray:
        """Solve L₁ Z = B, L₁ the leading square part of L."""
        return solve_triangular(L[: L.shape[1]], B, lower=True, check_finite=False)

    def diagonal(self, L: np.ndarray) -> np.ndarray:
        """Return the diagonal of L."""
        return np.diagonal(L)

    def rows(self, L: np.ndarray, start: int, stop: int) -> np.ndarray:
        """Return some rows of L."""
        return L[start:stop]

    def block(self, L: np.ndarray, coordinates: slice) -> np.ndarray:
        """Return a block on the diagonal of L."""
        return L[coordinates, coordinates]


def correlation(
    K: Float[np.ndarray, "n n"],
    kept: Integer[np.ndarray, " m"],
    scale: Float[np.ndarray, " m"],
    dtype: type[np.floating] = np.float64,
    whole: bool = False,
) -> Float[np.ndarray, "m m"]:
    """Return diag(scale) K diag(scale) for some inputs, with ones on the diagonal.

    Args:
        K: (n, n) covariances.
        kept: indices of the inputs, in the requested order.
        scale: scale of each of them; signs are kept.
        dtype: dtype of the result.
        whole: True for both triangles, False for the lower one only.

    Returns:
        the matrix, in Fortran order; without ``whole``, entries above the diagonal are undefined.
    """
    m = len(kept)
    C = np.zeros((m, m), dtype=dtype, order="F")
    ordered = np.array_equal(kept, np.arange(len(K)))
    for columns in row_blocks(m):
        # K is symmetric: its rows are read, the columns of C written, both contiguous.
        below = slice(0 if whole else columns.start, m)
        rows = K[columns, below] if ordered else K[kept[columns]][:, kept[below]]
        part = C[below, columns]
        np.multiply(rows.T, scale[below, None], out=part, casting="same_kind")
        part *= scale[columns].astype(dtype)
    np.fill_diagonal(C, 1.0)  # noise included; exact, so that rounding does not decide the order of visits
    return C


def row_blocks(n: int) -> list[slice]:
    """Return blocks of rows to process at a time."""
    return [slice(start, min(start + _ROWS, n)) for start in range(0, n, _ROWS)]


def algebra(backend: str) -> Algebra:
    """Return the linear algebra of a back end.

    Args:
        backend: as in the estimators' specifications.

    Returns:
        that of the host or of the device.
    """
    if not on_device(backend):
        return Host()
    from nngp_prior.numerics.device import Device

    return Device()


def on_device(backend: str) -> bool:
    """True if a back end is JAX; ``auto`` is JAX if it has a GPU."""
    return backend == "jax" or (backend == "auto" and _jax_has_gpu())


@functools.cache
def _jax_has_gpu() -> bool:
    """True if JAX has a GPU; JAX is imported only if a plugin for an accelerator is installed."""
    if not entry_points(group="jax_plugins"):
        return False
    import jax

    return jax.default_backend() == "gpu"
