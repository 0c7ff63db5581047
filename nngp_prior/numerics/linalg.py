"""Factorisations and updates of symmetric matrices, in place where LAPACK and BLAS allow it.

Matrices are in Fortran order, and symmetric ones keep their lower triangle only. Large products go through SciPy's
BLAS as the factorisations do: NumPy brings a BLAS of its own, and where the two alternate, the threads of each wait
for the other's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer
from scipy.linalg import get_blas_funcs, get_lapack_funcs

# OpenBLAS 0.3.30's threaded potrf crashes at n = 20,000: larger matrices go through it a panel at a time.
_PANEL = 8192
_FEWEST_ROWS, _PANELS = 128, 16  # solved for together: their zeros cost work, more panels cost time


class PivotedCholesky(NamedTuple):
    """C[order][:, order] = L Lᵀ up to ``residual``; L is n × rank and lower trapezoidal with a positive diagonal."""

    L: Float[np.ndarray, "n rank"]
    order: Integer[np.ndarray, " n"]
    residual: float


def pivoted_cholesky(C: Float[np.ndarray, "n n"]) -> PivotedCholesky:
    """Cholesky factorisation that visits the largest conditional variance next and stops at rounding level.

    LAPACK's ``pstrf``. C is taken as singular where every remaining conditional variance is below n ε times the
    largest diagonal element.

    Args:
        C: symmetric, in Fortran order; overwritten.

    Returns:
        the factor, the order of visits, and the largest absolute entry of C - L Lᵀ among the rows not factored,
        which is far above rounding where C is not positive semi-definite.
    """
    diagonal = C.diagonal().copy()
    (pstrf,) = get_lapack_funcs(("pstrf",), dtype=C.dtype)
    L, pivots, rank, _ = pstrf(C, lower=1, overwrite_a=1)
    order = pivots - 1
    # pstrf leaves the strict upper triangle as it was: what the rows not factored should have been.
    rest = order[rank:]
    block = L[np.minimum.outer(rest, rest), np.maximum.outer(rest, rest)]
    np.fill_diagonal(block, diagonal[rest])
    L = np.asfortranarray(L[:, :rank])
    _zero_above_diagonal(L)
    residual = float(np.abs(block - L[rank:] @ L[rank:].T).max(initial=0.0))
    return PivotedCholesky(L, order, residual)


def _zero_above_diagonal(L: Float[np.ndarray, "n rank"]) -> None:
    for j in range(1, L.shape[1]):
        L[: min(j, len(L)), j] = 0.0


def _flip(A: Float[np.ndarray, "n n"]) -> None:
    """Reverse the order of rows and columns, in place, so that no second matrix is needed."""
    last = len(A) - 1
    for j in range((last + 2) // 2):
        A[:, [j, last - j]] = A[::-1, [last - j, j]]


def cholesky(C: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"] | None:
    """Lower Cholesky factor, without pivoting.

    Args:
        C: symmetric, its lower triangle is read; overwritten.

    Returns:
        the factor in C's memory, or None if C is not positive definite in its precision.
    """
    gemm, trsm = get_blas_funcs(("gemm", "trsm"), dtype=C.dtype)
    (potrf,) = get_lapack_funcs(("potrf",), dtype=C.dtype)
    n = len(C)
    if n <= _PANEL and C.flags.f_contiguous:
        L, info = potrf(C, lower=1, clean=1, overwrite_a=1)
        return None if info else L
    for start, stop in _panels(n):
        own = C[start:stop, :start].copy(order="F")
        for top, bottom in _panels(n, start):
            C[top:bottom, start:stop] -= gemm(1.0, C[top:bottom, :start].copy(order="F"), own, trans_b=1)
        C[start:stop, start:stop], info = potrf(C[start:stop, start:stop].copy(order="F"), lower=1, overwrite_a=1)
        if info:
            return None
        triangle = C[start:stop, start:stop].copy(order="F")
        for top, bottom in _panels(n, stop):
            rows = C[top:bottom, start:stop].copy(order="F")
            C[top:bottom, start:stop] = trsm(1.0, triangle, rows, side=1, lower=1, trans_a=1, overwrite_b=1)
        C[:start, start:stop] = 0.0
    return C


def _gram_of_triangle(L: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """Lᵀ L for lower triangular L, its lower triangle, in L's memory (LAPACK's ``lauum``)."""
    (gemm,) = get_blas_funcs(("gemm",), dtype=L.dtype)
    (lauum,) = get_lapack_funcs(("lauum",), dtype=L.dtype)
    n = len(L)
    if n <= _PANEL:
        return lauum(L, lower=1, overwrite_c=1)[0]
    for start, stop in _panels(n):
        own = np.tril(L[start:stop, start:stop]).copy(order="F")
        below = L[stop:, start:stop].copy(order="F")
        for left, right in _panels(start):
            part = gemm(1.0, own, L[start:stop, left:right].copy(order="F"), trans_a=1)
            L[start:stop, left:right] = part + gemm(1.0, below, L[stop:, left:right].copy(order="F"), trans_a=1)
        L[start:stop, start:stop] = lauum(own, lower=1, overwrite_c=1)[0] + gemm(1.0, below, below, trans_a=1)
    return L


def _cholesky_of_upper(C: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"] | None:
    """U with C = Uᵀ U from C's upper triangle, in its memory; None if C is not positive definite in its precision."""
    if len(C) <= _PANEL:
        (potrf,) = get_lapack_funcs(("potrf",), dtype=C.dtype)
        U, info = potrf(C, lower=0, clean=1, overwrite_a=1)
        return None if info else U
    L = cholesky(C.T)
    return None if L is None else L.T


def _panels(stop: int, start: int = 0) -> list[tuple[int, int]]:
    return [(begin, min(begin + _PANEL, stop)) for begin in range(start, stop, _PANEL)]


def posterior_factor(
    L: Float[np.ndarray, "n rank"], precision: Float[np.ndarray, " n"], dtype: type[np.floating] = np.float64
) -> tuple[Float[np.ndarray, "n rank"], float]:
    r"""Cholesky factor of a Gaussian's covariance after Gaussian factors of the given precisions.

    .. math:: Σ = (C^{-1} + S)^{-1} = L R^{-T} R^{-1} L^T, \qquad R R^T = I + L^T S L, \quad R \text{ upper triangular}

    so that the factor L R⁻ᵀ is lower trapezoidal as L is, and neither C⁻¹ nor Σ is formed (C may be singular). Each
    of the three steps uses the triangles and costs n³/3 operations at full rank.

    Args:
        L: factor of C, lower trapezoidal.
        precision: the diagonal of S, not negative.
        dtype: of the work and the result.

    Returns:
        L R⁻ᵀ in Fortran order, and log |I + Lᵀ S L| = log |I + S½ C S½|; the latter is NaN, and the factor of no use,
        if the precision of ``dtype`` did not suffice.
    """
    (syrk,) = get_blas_funcs(("syrk",), dtype=dtype)
    rank = L.shape[1]
    root = np.sqrt(precision)
    gram = _gram_of_triangle(_scaled(L[:rank], root[:rank], dtype))
    if len(L) > rank:
        gram = syrk(1.0, _scaled(L[rank:], root[rank:], dtype), trans=1, lower=1, beta=1.0, c=gram, overwrite_c=1)
    gram[np.diag_indices_from(gram)] += 1.0
    # LAPACK factors into lower times upper; with rows and columns reversed that is upper times lower.
    _flip(gram)
    R = _cholesky_of_upper(gram)
    if R is None:
        return np.full(L.shape, np.nan, dtype=dtype, order="F"), np.nan
    _flip(R)  # now Rᵀ
    log_determinant = 2 * float(np.log(R.diagonal(), dtype=np.float64).sum())
    factor = np.empty(L.shape, dtype=dtype, order="F")
    factor[...] = L
    if len(L) > rank:
        (trsm,) = get_blas_funcs(("trsm",), dtype=dtype)
        factor[rank:] = trsm(1.0, R, factor[rank:].copy(order="F"), side=1, lower=1, overwrite_b=1)
    _divide_triangles(factor[:rank], R)
    return factor, log_determinant


def _scaled(A: np.ndarray, scale: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
    """diag(scale) A, in Fortran order."""
    return np.multiply(A, scale[:, None], dtype=dtype, order="F", casting="same_kind")


def _divide_triangles(X: Float[np.ndarray, "k k"], T: Float[np.ndarray, "k k"]) -> None:
    """X ← X T⁻¹ in place for lower triangular matrices; T is destroyed.

    Row i of X involves the leading i × i part of T only. So rows are solved for from the last ones up, some at a time,
    and T is cut down to its leading part, moved together in its own memory, as BLAS wants it.
    """
    (trsm,) = get_blas_funcs(("trsm",), dtype=X.dtype)
    k = len(T)
    size = max(_FEWEST_ROWS, -(-k // _PANELS))
    memory = T.reshape(-1, order="F")
    for stop in range(k, 0, -size):
        start = max(stop - size, 0)
        leading = memory[: stop * stop].reshape((stop, stop), order="F")
        rows = X[start:stop, :stop].copy(order="F")
        X[start:stop, :stop] = trsm(1.0, leading, rows, side=1, lower=1, overwrite_b=1)
        for j in range(start):
            memory[j * start : (j + 1) * start] = leading[:start, j]


def symmetric_columns(A: Float[np.ndarray, "n n"], start: int, stop: int) -> Float[np.ndarray, "n {stop-start}"]:
    """Columns start … stop of a symmetric matrix of which only the lower triangle is valid."""
    columns = np.empty((len(A), stop - start), dtype=A.dtype, order="F")
    columns[:start] = A[start:stop, :start].T
    columns[start:] = A[start:, start:stop]
    block = columns[start:stop]
    block[...] = np.tril(block) + np.tril(block, -1).T
    return columns


def matrix_vector(
    A: Float[np.ndarray, "n b"], x: Float[np.ndarray, " k"], transposed: bool = False
) -> Float[np.ndarray, " l"]:
    """A x, or Aᵀ x, in A's precision, for A in Fortran order."""
    (gemv,) = get_blas_funcs(("gemv",), dtype=A.dtype)
    return gemv(1.0, A, x, trans=int(transposed))


def subtract_weighted(A: Float[np.ndarray, "n n"], G: Float[np.ndarray, "n b"], c: Float[np.ndarray, " b"]) -> None:
    """A ← A - G diag(c) Gᵀ in place, on the lower triangle of A only, by a ``syrk`` product for each sign of c."""
    (syrk,) = get_blas_funcs(("syrk",), dtype=A.dtype)
    for sign in (1.0, -1.0):
        chosen = sign * c > 0
        if chosen.any():
            weighted = G[:, chosen] * np.sqrt(np.abs(c[chosen])).astype(A.dtype)
            syrk(-sign, np.asfortranarray(weighted), beta=1.0, c=A, lower=1, overwrite_c=1)
