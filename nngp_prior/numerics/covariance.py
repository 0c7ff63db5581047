"""Validation of covariance matrices, with tolerances that follow the precision of their computation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg
from jaxtyping import Float, Integer

from nngp_prior.errors import InvalidKernel
from nngp_prior.numerics.backends import correlation, row_blocks
from nngp_prior.numerics.linalg import cholesky

# In units of the rounding ε of the matrix's own type, relative to a unit diagonal. Rows of scaled copies, which the
# recursion of a ReLU network gives, differ by up to 12 ε at depth 20.
TIED = 4  # 1 - |correlation| of inputs that determine each other
_EQUAL_ROWS = 32


def rounding_of(K: Float[np.ndarray, "n n"]) -> float:
    """Return the rounding ε of the type that a matrix was computed in: that of its dtype; float64 for integers."""
    return float(np.finfo(K.dtype if K.dtype.kind == "f" else np.float64).eps)


def partners(
    K: Float[np.ndarray, "n n"],
    scale: Float[np.ndarray, " n"],
    strength: Callable[[np.ndarray], np.ndarray],
    rounding: float,
) -> tuple[Integer[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return for each input the first one before it that determines it, or itself.

    Two inputs determine each other if their correlation is ±1 and, up to that sign, whole rows of K agree, both up to
    rounding. Noise on the diagonal is in ``scale``, so that inputs with noise only determine themselves.

    Args:
        K: symmetric matrix.
        scale: 1/standard deviation per input, noise included.
        strength: function of correlations, 1 if inputs may determine each other: the absolute value, or one sign alone.
        rounding: ε of the type that K was computed in.

    Returns:
        indices, and the sign of the correlation with that input.

    Raises:
        InvalidKernel: if a correlation is ±1 and rows differ by more than any covariance matrix admits.
    """
    n = len(K)
    first, sign = np.arange(n), np.ones(n)
    for rows in row_blocks(n):
        earlier = strength(K[rows, : rows.stop]) * (scale[rows, None] * scale[: rows.stop]) >= 1 - TIED * rounding
        earlier &= np.arange(rows.stop) < np.arange(rows.start, rows.stop)[:, None]
        for i in np.flatnonzero(earlier.any(axis=1)) + rows.start:
            for j in np.flatnonzero(earlier[i - rows.start]):
                s = float(np.sign(K[i, j]))
                if _equal_rows(K, scale, int(i), int(j), s, rounding):
                    first[i], sign[i] = j, s
                    break
    return first, sign


def _equal_rows(K: np.ndarray, scale: np.ndarray, i: int, j: int, sign: float, rounding: float) -> bool:
    r"""True if the correlations of two inputs with all others agree to rounding.

    By Cauchy and Schwarz, \|c_ik ∓ c_jk\| ≤ √(2 (1 - \|c_ij\|)) for every k: Var(f_i ∓ f_j) = 2 (1 - \|c_ij\|).

    Returns:
        True if they agree.

    Raises:
        InvalidKernel: if they differ by more than this inequality admits.
    """
    difference = np.abs(K[i] * (scale[i] * scale) - sign * (K[j] * (scale[j] * scale)))
    k = int(np.argmax(difference))
    admitted = (2 * max(1 - abs(float(K[i, j])) * scale[i] * scale[j], 0.0) + 16 * rounding) ** 0.5
    if difference[k] > admitted + 16 * rounding:
        raise InvalidKernel(
            "K",
            f"is not positive semi-definite: inputs {j} and {i} have correlation {sign:+.0f}, but their correlations "
            f"with input {k} are {K[j, k] * scale[j] * scale[k]:.6g} and {K[i, k] * scale[i] * scale[k]:.6g}",
            "Tied inputs must have rows that are equal, or opposite: check how K was computed.",
        )
    return bool(difference[k] <= _EQUAL_ROWS * rounding)


def require_semidefinite(
    K: Float[np.ndarray, "n n"], inputs: Integer[np.ndarray, " m"], scale: Float[np.ndarray, " m"], rounding: float
) -> None:
    """Refuse a matrix with a negative eigenvalue that rounding does not explain.

    Decided by a Cholesky factorisation of the correlations with the allowed deviation added; eigenvalues are computed
    only for the message.

    Args:
        K: symmetric matrix.
        inputs: indices of the inputs to be examined.
        scale: 1/standard deviation of each of them, noise included.
        rounding: ε of the type that K was computed in.

    Raises:
        InvalidKernel: if there is one.
    """
    # Independent rounding errors have a spectral norm of about ε √n.
    allowed = max(1e-10, 32 * len(K) ** 0.5 * rounding)
    C = correlation(K, inputs, scale)
    C[np.diag_indices_from(C)] += allowed
    if cholesky(C) is not None:
        return
    i, j, smallest = _negative_direction(correlation(K, inputs, scale))
    if smallest >= -allowed:
        return
    i, j = sorted((int(inputs[i]), int(inputs[j])))
    raise InvalidKernel(
        "K",
        f"is not positive semi-definite: its correlations have the eigenvalue {smallest:.2g}, in a direction about "
        f"inputs {i} and {j} (rounding explains {-allowed:.1g})",
        remedy_for(-smallest, rounding),
    )


def _negative_direction(C: Float[np.ndarray, "n n"]) -> tuple[int, int, float]:
    """Return the rows with the largest entries of the eigenvector of the smallest eigenvalue, and this eigenvalue."""
    values, vectors = scipy.linalg.eigh(C, lower=True, overwrite_a=True, check_finite=False, subset_by_index=[0, 0])
    i, j = np.argsort(np.abs(vectors[:, 0]))[[-2, -1]] if len(C) > 1 else (0, 0)
    return int(i), int(j), float(values[0])


def remedy_for(size: float, rounding: float) -> str:
    """Return the remedy for a matrix that is not a covariance.

    Args:
        size: deviation, relative to a unit diagonal.
        rounding: ε of the type of K.

    Returns:
        a sentence.
    """
    remedy = "Check how it was computed."
    if size > 1e-3:  # too large for rounding
        return remedy
    jitter = f"jitter={max(1e-6, 10 * size):.0e}"
    if rounding > 1e-10:
        return f"{remedy} If that is rounding, compute it in float64, or pass {jitter}."
    return f"{remedy} If in float32, pass it as a float32 array, whose rounding is allowed for, or {jitter}."
