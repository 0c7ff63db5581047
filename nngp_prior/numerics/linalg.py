"""Factorisations and updates of symmetric matrices, in place where LAPACK and BLAS allow it.

Matrices are in Fortran order, and symmetric ones use their lower triangle only. Large products go through SciPy's
BLAS as the factorisations do: NumPy has a BLAS of its own, and if the two alternate, the threads of each wait for the
other's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer
from scipy.linalg import get_blas_funcs, get_lapack_funcs, solve_triangular

from nngp_prior.numerics import blas

# OpenBLAS 0.3.30's threaded potrf crashes at n = 20,000: larger matrices are factored panel by panel.
_PANEL = 8192
_SMALL_PANEL = 512  # used if a block on the diagonal costs more than its share
_FEWEST_ROWS, _PARTS = 128, 16  # solved for together: their zeros cost work, more parts cost time


class PivotedCholesky(NamedTuple):
    """C[order][:, order] = L Lᵀ up to the tolerance; L is n × rank and lower trapezoidal with a positive diagonal.

    Attributes:
        L: the factor.
        order: order of visits.
    """

    L: Float[np.ndarray, "n rank"]
    order: Integer[np.ndarray, " n"]


def pivoted_cholesky(C: Float[np.ndarray, "n n"], tolerance: float) -> PivotedCholesky:
    """Compute a Cholesky factor with pivoting by the largest conditional variance, up to rounding level.

    Uses LAPACK's ``pstrf``. C is taken as singular if every remaining conditional variance is below the tolerance.

    Args:
        C: symmetric, in Fortran order; overwritten.
        tolerance: absolute tolerance.

    Returns:
        the factor and the order of visits.
    """
    if C.diagonal().max(initial=0.0) <= tolerance:  # pstrf takes the first pivot in any case
        return PivotedCholesky(np.zeros((len(C), 0), order="F"), np.arange(len(C)))
    (pstrf,) = get_lapack_funcs(("pstrf",), dtype=C.dtype)
    L, pivots, rank, _ = pstrf(C, lower=1, overwrite_a=1, tol=tolerance)
    L = np.asfortranarray(L[:, :rank])
    _zero_above_diagonal(L)
    return PivotedCholesky(L, pivots - 1)


def pivoted_cholesky_in_two(
    C: Float[np.ndarray, "n n"], leading: int, tolerance: float
) -> tuple[Float[np.ndarray, "n rank"], Integer[np.ndarray, " n"]]:
    r"""As :func:`pivoted_cholesky`, but visits first the leading rows that determine the other leading ones.

    .. math:: C = \begin{pmatrix} A & B^T \\ B & D \end{pmatrix}, \quad A = L L^T, \quad X = B L^{-T}, \quad
        D - X X^T = M M^T, \quad \text{factor } \begin{pmatrix} L & 0 \\ X & M \end{pmatrix}

    where L in X contains only the pivot rows of A. Order of visits: the pivot rows of A, the pivot rows of
    D - X Xᵀ, the remaining leading rows, the remaining rows.

    Args:
        C: symmetric, both triangles; positive semi-definite up to rounding, which is not checked.
        leading: number of leading rows.
        tolerance: absolute tolerance.

    Returns:
        the factor and the order of visits.
    """
    head = pivoted_cholesky(np.asfortranarray(C[:leading, :leading]).copy(order="F"), tolerance)
    r = head.L.shape[1]
    first, later = np.split(head.order, [r])
    B = C[leading:, first]
    X = solve_triangular(head.L[:r], B.T, lower=True).T if B.size else B
    tail = pivoted_cholesky(np.asfortranarray(C[leading:, leading:] - X @ X.T), tolerance)
    q = tail.L.shape[1]
    X = X[tail.order]
    L = np.zeros((len(C), r + q), order="F")
    L[:r, :r], L[r : r + q, :r], L[r : r + q, r:] = head.L[:r], X[:q], tail.L[:q]
    rest = slice(r + q, r + q + len(later))
    L[rest, :r], L[rest.stop :, :r], L[rest.stop :, r:] = head.L[r:], X[q:], tail.L[q:]
    order = np.concatenate([first, leading + tail.order[:q], later, leading + tail.order[q:]])
    return L, order


def _zero_above_diagonal(L: Float[np.ndarray, "n rank"]) -> None:
    for j in range(1, L.shape[1]):
        L[: min(j, len(L)), j] = 0.0


def cholesky(C: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"] | None:
    """Compute the lower Cholesky factor, without pivoting.

    Args:
        C: symmetric, in Fortran order, its lower triangle is read; overwritten.

    Returns:
        the factor in C's memory, or None if C is not positive definite in its precision.
    """
    n = len(C)
    for start, stop in _panels(n, _PANEL):
        own, below = C[start:stop, start:stop], C[stop:, start:stop]
        blas.syrk(-1.0, C[start:stop, :start], own)
        if not blas.potrf(own):
            return None
        blas.gemm(-1.0, C[stop:, :start], C[start:stop, :start], below, trans_b=True)
        blas.trsm(own, below, right=True, trans=True)
    _zero_above_diagonal(C)
    return C


def _gram_of_triangle(L: Float[np.ndarray, "n n"]) -> None:
    """L ← Lᵀ L for lower triangular L, the lower triangle."""
    for start, stop in _panels(len(L), _PANEL):
        own, left = L[start:stop, start:stop], L[start:stop, :start]
        blas.trmm(own, left, trans=True)
        blas.gemm(1.0, L[stop:, start:stop], L[stop:, :start], left, trans_a=True)
        blas.lauum(own)
        blas.syrk(1.0, L[stop:, start:stop], own, trans=True)


def _reverse_cholesky(C: Float[np.ndarray, "n n"]) -> bool:
    """C ← T, lower triangular with a positive diagonal, where C = Tᵀ T: the inverse of :func:`_gram_of_triangle`.

    Returns:
        False if C is not positive definite in its precision.
    """
    for start, stop in reversed(_panels(len(C), _SMALL_PANEL)):
        own, left = C[start:stop, start:stop], C[start:stop, :start]
        blas.syrk(-1.0, C[stop:, start:stop], own, trans=True)
        # LAPACK factors into lower times upper; with rows and columns reversed that is upper times lower.
        whole = np.tril(own) + np.tril(own, -1).T
        reversed_own = np.asfortranarray(whole[::-1, ::-1])
        if not blas.potrf(reversed_own):
            return False
        own[...] = np.tril(reversed_own).T[::-1, ::-1]
        blas.gemm(-1.0, C[stop:, start:stop], C[stop:, :start], left, trans_a=True)
        blas.trsm(own, left, trans=True)
    _zero_above_diagonal(C)
    return True


def _panels(n: int, size: int) -> list[tuple[int, int]]:
    return [(start, min(start + size, n)) for start in range(0, n, size)]


def posterior_factor(
    L: Float[np.ndarray, "n rank"], precision: Float[np.ndarray, " n"], dtype: type[np.floating] = np.float64
) -> tuple[Float[np.ndarray, "n rank"], float]:
    r"""Compute the Cholesky factor of a Gaussian's covariance after Gaussian factors of the given precisions.

    .. math:: Σ = (C^{-1} + S)^{-1} = L T^{-1} T^{-T} L^T, \qquad T^T T = I + L^T S L, \quad T \text{ lower triangular}

    so that the factor L T⁻¹ is lower trapezoidal as L is, and neither C⁻¹ nor Σ is formed (C may be singular). Each
    of the three steps uses the triangles and costs n³/3 operations at full rank; all of them share one matrix.

    Args:
        L: factor of C, lower trapezoidal.
        precision: the diagonal of S, not negative.
        dtype: dtype of the computation and the result.

    Returns:
        L T⁻¹ in Fortran order, and log |I + Lᵀ S L| = log |I + S½ C S½|; the latter is NaN, and the factor invalid, if
        the precision of ``dtype`` did not suffice.
    """
    rank = L.shape[1]
    factor = np.multiply(L, np.sqrt(precision)[:, None], dtype=dtype, order="F", casting="same_kind")
    T, rest = factor[:rank], factor[rank:]
    _gram_of_triangle(T)
    blas.syrk(1.0, rest, T, trans=True)
    T[np.diag_indices_from(T)] += 1.0
    if not _reverse_cholesky(T):
        factor.fill(np.nan)
        return factor, np.nan
    log_determinant = 2 * float(np.log(T.diagonal(), dtype=np.float64).sum())
    rest[...] = L[rank:]
    blas.trsm(T, rest, right=True)
    # Row i of L T⁻¹ involves only the leading i × i part of T: from the last rows up, they overwrite T's.
    for start, stop in reversed(_panels(rank, max(_FEWEST_ROWS, -(-rank // _PARTS)))):
        rows = L[start:stop, :stop].astype(dtype, order="F")
        blas.trsm(T[:stop, :stop], rows, right=True)
        T[start:stop, :stop] = rows
    return factor, log_determinant


def symmetric_columns(A: Float[np.ndarray, "n n"], start: int, stop: int) -> Float[np.ndarray, "n {stop-start}"]:
    """Return columns start … stop of a symmetric matrix of which only the lower triangle is valid."""
    columns = np.empty((len(A), stop - start), dtype=A.dtype, order="F")
    columns[:start] = A[start:stop, :start].T
    columns[start:] = A[start:, start:stop]
    block = columns[start:stop]
    block[...] = np.tril(block) + np.tril(block, -1).T
    return columns


def matrix_vector(
    A: Float[np.ndarray, "n b"], x: Float[np.ndarray, " k"], transposed: bool = False
) -> Float[np.ndarray, " l"]:
    """Return A x, or Aᵀ x, in A's precision, for A in Fortran order."""
    (gemv,) = get_blas_funcs(("gemv",), dtype=A.dtype)
    return gemv(1.0, A, x, trans=int(transposed))


def subtract_weighted(A: Float[np.ndarray, "n n"], G: Float[np.ndarray, "n b"], c: Float[np.ndarray, " b"]) -> None:
    """A ← A - G diag(c) Gᵀ in place, on the lower triangle only, by one ``syrk`` product for each sign of c."""
    for sign in (1.0, -1.0):
        chosen = sign * c > 0
        if chosen.any():
            weighted = G[:, chosen] * np.sqrt(np.abs(c[chosen])).astype(A.dtype)
            blas.syrk(-sign, np.asfortranarray(weighted), A)
