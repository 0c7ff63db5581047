"""One sweep of EP over all sites: sequential inside a block, a block at a time as matrix products."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy.linalg import get_lapack_funcs

from nngp_prior.numerics.gaussian import half_line_moments
from nngp_prior.numerics.linalg import matrix_vector, subtract_congruence, symmetric_columns

_BLOCK = 128


def sweep(
    Sigma: Float[np.ndarray, "m m"],
    mean: Float[np.ndarray, " m"],
    s: Float[np.ndarray, " m"],
    nu: Float[np.ndarray, " m"],
) -> float:
    """Update every site once; all arguments change in place.

    Args:
        Sigma: covariance with the sites in, its lower triangle; in Fortran order.
        mean: of the same Gaussian.
        s: precisions of the sites.
        nu: their shifts.

    Returns:
        the largest change of a site, as the change it makes to its marginal: of the mean in standard deviations, or
        of the variance as a fraction. Infinite if rounding made a variance or a cavity's improper.
    """
    m = len(Sigma)
    return max(_update_block(Sigma, mean, s, nu, start, min(start + _BLOCK, m)) for start in range(0, m, _BLOCK))


def _update_block(Sigma: np.ndarray, mean: np.ndarray, s: np.ndarray, nu: np.ndarray, start: int, stop: int) -> float:
    r"""Sequential EP inside one block, then its total change to everything; all arguments change in place.

    With ΔS, Δν the changes of the block's sites, u the block's new mean and I the block:

    .. math:: M = ΔS (I + Σ_{II} ΔS)^{-1}, \qquad μ \mathrel{+}= Σ_{:,I} (Δν - ΔS u), \qquad
        Σ \mathrel{-}= Σ_{:,I} M Σ_{I,:}

    Returns:
        the largest change of a site, as :func:`_sequential_ep` measures it.
    """
    block = slice(start, stop)
    columns = symmetric_columns(Sigma, start, stop)
    Sigma_II = columns[block].astype(np.float64)
    s_before, nu_before = s[block].copy(), nu[block].copy()
    change = _sequential_ep(Sigma_II, mean[block], s[block], nu[block])
    delta_s, delta_nu = s[block] - s_before, nu[block] - nu_before
    system = np.eye(stop - start) + Sigma_II * delta_s
    # One factorisation for both: (I + Σ ΔS)⁻¹ [μ + Σ Δν, I].
    right_hand_sides = np.column_stack([mean[block] + Sigma_II @ delta_nu, np.eye(stop - start)])
    (gesv,) = get_lapack_funcs(("gesv",), dtype=system.dtype)
    solution = gesv(system, right_hand_sides)[2]
    u, M = solution[:, 0], delta_s[:, None] * solution[:, 1:]
    mean += matrix_vector(columns, delta_nu - delta_s * u)
    subtract_congruence(Sigma, columns, (M + M.T) / 2)
    return change


def _sequential_ep(Sigma: np.ndarray, mean: np.ndarray, s: np.ndarray, nu: np.ndarray) -> float:
    """One sweep of exact sequential EP over a small matrix; s and nu change in place.

    Rank-one updates are not carried out on Sigma but kept, C diag(c) Cᵀ, and applied to the one column that comes next.

    Returns:
        the largest change of a site, as the change it makes to its marginal: of the mean in standard deviations, or
        of the variance as a fraction. Infinite if rounding made a variance or a cavity's improper.
    """
    b = len(mean)
    mean = mean.copy()
    C, c = np.zeros((b, b)), np.zeros(b)
    largest = 0.0
    for k in range(b):
        column = Sigma[:, k] - C[:, :k] @ (c[:k] * C[k, :k])
        variance = float(column[k])
        if not variance > 0:
            return math.inf
        marginal_mean, old_s, old_nu = float(mean[k]), float(s[k]), float(nu[k])
        tau = 1 / variance - old_s
        if not tau > 0:
            return math.inf
        root = math.sqrt(tau)
        h, r, V, D = half_line_moments((marginal_mean / variance - old_nu) / root)
        s[k] = tau * r / V
        nu[k] = root * h * D / V
        delta_s, delta_nu = float(s[k]) - old_s, float(nu[k]) - old_nu
        weight = delta_s / (1 + delta_s * variance)
        gain = (delta_nu - delta_s * marginal_mean) / (1 + delta_s * variance)
        mean += column * gain
        C[:, k] = column
        c[k] = weight
        largest = max(largest, abs(gain) * math.sqrt(variance), abs(weight) * variance)
    return largest
