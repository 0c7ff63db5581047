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


def _reverse_columns(A: Float[np.ndarray, "n k"]) -> None:
    """In place, so that no second matrix is needed."""
    last = A.shape[1] - 1
    for j in range((last + 1) // 2):
        A[:, [j, last - j]] = A[:, [last - j, j]]


def posterior_factor(
    L: Float[np.ndarray, "n rank"], precision: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "n rank"], float]:
    r"""Cholesky factor of a Gaussian's covariance after Gaussian factors of the given precisions.

    .. math:: Σ = (C^{-1} + S)^{-1} = L R^{-T} R^{-1} L^T, \qquad R R^T = I + L^T S L, \quad R \text{ upper triangular}

    so that the factor L R⁻ᵀ is lower trapezoidal as L is, and neither C⁻¹ nor Σ is formed (C may be singular).

    Args:
        L: factor of C, in Fortran order.
        precision: the diagonal of S, not negative.

    Returns:
        L R⁻ᵀ, and log |I + Lᵀ S L| = log |I + S½ C S½|.
    """
    syrk, trsm = get_blas_funcs(("syrk", "trsm"), dtype=L.dtype)
    (potrf,) = get_lapack_funcs(("potrf",), dtype=L.dtype)
    # Reversing the columns of L turns the upper triangular R into a lower one, as LAPACK's potrf wants it.
    # Copies, made as such: a single column reversed is itself, and what follows writes in place.
    weighted = L[:, ::-1].copy(order="F")
    weighted *= np.sqrt(precision)[:, None]
    gram = syrk(1.0, weighted, trans=1, lower=1)
    del weighted  # one matrix less at the peak, for one copy more
    gram[np.diag_indices_from(gram)] += 1.0
    R, _ = potrf(gram, lower=1, overwrite_a=1)
    log_determinant = 2 * float(np.log(R.diagonal()).sum())
    factor = trsm(1.0, R, L[:, ::-1].copy(order="F"), side=1, lower=1, trans_a=1, overwrite_b=1)
    _reverse_columns(factor)
    _zero_above_diagonal(factor)
    return factor, log_determinant


def symmetric_columns(A: Float[np.ndarray, "n n"], start: int, stop: int) -> Float[np.ndarray, "n {stop-start}"]:
    """Columns start … stop of a symmetric matrix of which only the lower triangle is valid."""
    columns = np.empty((len(A), stop - start), dtype=A.dtype, order="F")
    columns[:start] = A[start:stop, :start].T
    columns[start:] = A[start:, start:stop]
    block = columns[start:stop]
    block[...] = np.tril(block) + np.tril(block, -1).T
    return columns


def matrix_vector(A: Float[np.ndarray, "n b"], x: Float[np.ndarray, " b"]) -> Float[np.ndarray, " n"]:
    """A x, in A's precision, for A in Fortran order."""
    (gemv,) = get_blas_funcs(("gemv",), dtype=A.dtype)
    return gemv(1.0, A, x)


def subtract_congruence(A: Float[np.ndarray, "n n"], W: Float[np.ndarray, "n b"], M: Float[np.ndarray, "b b"]) -> None:
    """A ← A - W M Wᵀ in place, on the lower triangle of A only.

    M is symmetric but may be indefinite. Splitting it by the signs of its eigenvalues makes two ``syrk`` products of
    half a matrix product's work together.
    """
    gemm, syrk = get_blas_funcs(("gemm", "syrk"), dtype=A.dtype)
    (syevd,) = get_lapack_funcs(("syevd",), dtype=M.dtype)
    eigenvalues, Q, _ = syevd(M)
    negligible = np.finfo(M.dtype).eps * np.abs(eigenvalues).max(initial=0.0)
    for sign in (1.0, -1.0):
        chosen = sign * eigenvalues > negligible
        if chosen.any():
            root = Q[:, chosen] * np.sqrt(np.abs(eigenvalues[chosen]))
            syrk(-sign, gemm(1.0, W, root), beta=1.0, c=A, lower=1, overwrite_c=1)
