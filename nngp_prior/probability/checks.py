"""Validation of kernel matrices."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from nngp_prior.errors import InvalidKernel
from nngp_prior.numerics.covariance import remedy_for, rounding_of
from nngp_prior.schemas.arrays import numeric_array

_ASYMMETRY_ALLOWED = _EXCESS_ALLOWED = 1e-8  # of correlations in float64
_SMALLEST_VARIANCE = 1e-290  # its inverse and its square-sized products are still normal numbers
_TILE = 512


def as_matrix(K: ArrayLike) -> Float[np.ndarray, "n n"]:
    """Return K as a square float64 array, or float32 if given as such; without a copy if possible.

    Args:
        K: (n, n) real numbers.

    Returns:
        the array; its entries are not checked.

    Raises:
        InvalidKernel: if K is not a square matrix of real numbers, or is empty.
    """
    try:
        K = numeric_array(K)
    except (TypeError, ValueError) as error:
        raise InvalidKernel("K", f"is not a matrix of real numbers ({error})", "Pass an n × n array.") from None
    if K.ndim != 2 or K.shape[0] != K.shape[1] or K.size == 0:
        raise InvalidKernel("K", f"has shape {K.shape}", "Pass a square matrix, one row and column an input.")
    return K if K.dtype == np.float32 else K.astype(np.float64, copy=False)


def check_entries(K: Float[np.ndarray, "n n"], diagonal_shift: float) -> None:
    """Refuse a matrix that is evidently not a covariance. One pass over K; positive definiteness is not tested.

    Args:
        K: a square matrix.
        diagonal_shift: number added to the diagonal before use.

    Raises:
        InvalidKernel: if K is not finite, not symmetric, or has a variance that is not positive.
    """
    n, diagonal, asymmetry = len(K), K.diagonal().astype(np.float64), _asymmetry_allowed(K)
    tiles = [slice(start, min(start + _TILE, n)) for start in range(0, n, _TILE)]
    if np.isfinite(diagonal).all() and diagonal.min() < _SMALLEST_VARIANCE:
        i = int(np.argmin(diagonal))
        raise InvalidKernel(
            "K",
            f"the variance K[{i}, {i}] of input {i} is {diagonal[i]:g}, so that its label is undefined",
            "Leave the input out (a zero vector has no label without biases), or give the network a bias.",
        )
    with np.errstate(invalid="ignore", over="ignore"):
        deviation = np.sqrt(diagonal + diagonal_shift)
        for rows in tiles:
            for columns in tiles[: rows.start // _TILE + 1]:
                allowed = asymmetry * deviation[rows].min() * deviation[columns].min()
                if not np.abs(K[rows, columns] - K[columns, rows].T).max() <= allowed:  # or NaN
                    _refuse_tile(K, rows, columns, deviation)


def _asymmetry_allowed(K: np.ndarray) -> float:
    return max(_ASYMMETRY_ALLOWED, 64 * rounding_of(K))


def _refuse_tile(K: np.ndarray, rows: slice, columns: slice, deviation: np.ndarray) -> None:
    """Raise the error for a tile that differs from its mirror image; the caller's test was stricter."""
    for part in (K[rows, columns], K[columns, rows].T):
        if not np.isfinite(part).all():
            i, j = np.argwhere(~np.isfinite(part))[0]
            i, j = i + rows.start, j + columns.start
            i, j = (i, j) if not np.isfinite(K[i, j]) else (j, i)
            raise InvalidKernel("K", f"K[{i}, {j}] is {K[i, j]}", "Remove the input or correct the kernel.")
    asymmetry = np.abs(K[rows, columns] - K[columns, rows].T) / (deviation[rows, None] * deviation[columns])
    if asymmetry.max() > _asymmetry_allowed(K):
        i, j = np.unravel_index(np.argmax(asymmetry), asymmetry.shape)
        i, j = sorted((int(i) + rows.start, int(j) + columns.start))
        raise InvalidKernel(
            "K",
            f"is not symmetric: K[{i}, {j}] = {K[i, j]:.10g} but K[{j}, {i}] = {K[j, i]:.10g}",
            "Pass (K + K.T) / 2 if the difference is rounding.",
        )


def check_correlations(K: Float[np.ndarray, "n n"], scale: Float[np.ndarray, " n"]) -> None:
    """Refuse correlations above 1.

    Args:
        K: a symmetric matrix.
        scale: 1/standard deviation of each input, including the diagonal shift.

    Raises:
        InvalidKernel: if a correlation exceeds 1; the message names the pair.
    """
    rounding = rounding_of(K)
    for start in range(0, len(K), _TILE):
        excess = np.abs(K[start : start + _TILE]) * (scale[start : start + _TILE, None] * scale)
        if excess.max() > 1 + max(_EXCESS_ALLOWED, 64 * rounding):
            i, j = np.unravel_index(np.argmax(excess), excess.shape)
            raise InvalidKernel(
                "K",
                f"is not positive semi-definite: inputs {i + start} and {j} have correlation {excess[i, j]:.10g}",
                remedy_for(excess[i, j] - 1, rounding),
            )
