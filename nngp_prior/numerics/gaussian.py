"""Half-line Gaussians: moments and draws that are accurate far out in the tail.

Φ and φ are the standard normal's distribution function and density; h = φ/Φ is the inverse Mills ratio.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import erfcx, log_ndtr, ndtri_exp

_SQRT_HALF = math.sqrt(0.5)
_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
CONTINUED_FRACTION_BELOW = -5.0
_CONTINUED_FRACTION_TERMS = 60
_CUMULANTS_BY_MOMENTS_BELOW = -3.0  # here 60 terms leave an error of 1e-12
_HAZARD_UNDERFLOWS_ABOVE = 37.0
# Here the cancellation in z - (z - t), about 4e-14 z² in units of log u, equals the neglected term, about z⁻².
_EXPONENTIAL_TAIL_BELOW = -2e3


def half_line_moments(z: float) -> tuple[float, float, float, float]:
    r"""Return the derivatives of log Φ for a Heaviside site, each without cancellation.

    .. math:: h = φ(z)/Φ(z), \quad r = h (z + h), \quad V = 1 - h (z + h), \quad D = 1 + z (z + h)

    V is the variance of a standard normal restricted to x > -z, and r = 1 - V. Below z = -5, with x = -z,
    Laplace's continued fraction c = 2/(x + 3/(x + …)) and d = 1/(x + c) give

    .. math:: h = x + d, \quad V = d (c - d), \quad D = c d .

    Args:
        z: any finite number.

    Returns:
        (h, r, V, D), each with a relative error under 1e-10 for -1e8 ≤ z ≤ 37. Above, φ underflows and h = r = 0.
    """
    if z < CONTINUED_FRACTION_BELOW:
        return far_moments(-z)
    return near_moments(z, 0.0 if z > _HAZARD_UNDERFLOWS_ABOVE else _SQRT_2_OVER_PI / float(erfcx(-z * _SQRT_HALF)))


def near_moments(z: Any, h: Any) -> tuple[Any, Any, Any, Any]:
    """Return (h, r, V, D) from h, for z that is not far below 0.

    Args:
        z: a number, or an array of NumPy or JAX.
        h: hazards, of the same type.

    Returns:
        four of the same type.
    """
    r = h * (z + h)
    return h, r, 1 - r, 1 + z * (z + h)


def far_moments(x: Any) -> tuple[Any, Any, Any, Any]:
    """Return (h, r, V, D) by the continued fraction, for z = -x far below 0; types as for :func:`near_moments`."""
    tail = x
    for k in range(_CONTINUED_FRACTION_TERMS, 2, -1):
        tail = x + k / tail
    c = 2 / tail
    d = 1 / (x + c)
    h = x + d
    # r = h (z + h) with z + h = d exactly.
    return h, h * d, d * (c - d), c * d


def half_line_moments_array(
    z: Float[np.ndarray, " n"],
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"], Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """:func:`half_line_moments` for many numbers at once, with the same formulas and accuracy.

    Args:
        z: finite numbers.

    Returns:
        (h, r, V, D), one array each.
    """
    near = np.maximum(z, CONTINUED_FRACTION_BELOW)
    h = np.where(z > _HAZARD_UNDERFLOWS_ABOVE, 0.0, _SQRT_2_OVER_PI / erfcx(-near * _SQRT_HALF))
    both = zip(far_moments(-np.minimum(z, CONTINUED_FRACTION_BELOW)), near_moments(near, h), strict=True)
    h, r, V, D = (np.where(z < CONTINUED_FRACTION_BELOW, below, above) for below, above in both)
    return h, r, V, D


def _moment_ratios(x: Float[np.ndarray, " n"], count: int) -> list[Float[np.ndarray, " n"]]:
    r"""Return M_k/M_{k-1} for k = 1 … count, with M_k = ∫ t^k exp(-x t - ½ t²) dt over t > 0.

    Integration by parts gives k M_{k-1} = x M_k + M_{k+1}, hence

    .. math:: \frac{M_k}{M_{k-1}} = \frac{k}{x + M_{k+1}/M_k},

    which has no subtraction when followed downwards. For k = 1 and 2 these are d and c of :func:`half_line_moments`.

    Returns:
        the ratios, in order of k.
    """
    ratio = np.zeros_like(x)
    ratios = []
    for k in range(_CONTINUED_FRACTION_TERMS, 0, -1):
        ratio = k / (x + ratio)
        if k <= count:
            ratios.append(ratio)
    return ratios[::-1]


def half_line_cumulants(z: Float[np.ndarray, " n"], highest: int) -> Float[np.ndarray, "orders n"]:
    r"""Return standardised cumulants κ_3 … κ_highest of a standard normal restricted to x > -z.

    Its cumulant generating function is log Φ(z + t) - log Φ(z) + t²/2, so that for l ≥ 3 the cumulants are derivatives
    of the hazard, and from h' = -h (z + h)

    .. math:: κ_l = V^{-l/2} h^{(l-1)}(z), \qquad
        h^{(k+1)} = -z h^{(k)} - k h^{(k-1)} - \sum_{j=0}^{k} \binom{k}{j} h^{(j)} h^{(k-j)} .

    Below z = -3, where this loses digits, the cumulants follow from the moments of the excess over the boundary, in
    units of its mean. Far below it is exponential, κ_l → (l-1)!; far above κ_l → 0.

    Args:
        z: finite numbers.
        highest: highest order, from 3 to 8.

    Returns:
        one order per row; errors are under 2e-10 (l-1)!.
    """
    near = _cumulants_by_derivatives(np.maximum(z, _CUMULANTS_BY_MOMENTS_BELOW), highest)
    far = _cumulants_by_moments(-np.minimum(z, _CUMULANTS_BY_MOMENTS_BELOW), highest)
    return np.where(z < _CUMULANTS_BY_MOMENTS_BELOW, far, near)


def _cumulants_by_derivatives(z: np.ndarray, highest: int) -> np.ndarray:
    h, r, V, _ = half_line_moments_array(z)
    derivatives = [h, -r]
    for k in range(1, highest - 1):
        products = sum(math.comb(k, j) * derivatives[j] * derivatives[k - j] for j in range(k + 1))
        derivatives.append(-z * derivatives[k] - k * derivatives[k - 1] - products)
    return np.array([derivatives[order - 1] / V ** (order / 2) for order in range(3, highest + 1)])


def _cumulants_by_moments(x: np.ndarray, highest: int) -> np.ndarray:
    ratios = _moment_ratios(x, highest)
    moments = [np.ones_like(x)]
    for ratio in ratios:
        moments.append(moments[-1] * (ratio / ratios[0]))
    cumulants = [moments[1]]
    for order in range(2, highest + 1):
        lower = sum(math.comb(order - 1, j) * cumulants[j] * moments[order - 1 - j] for j in range(order - 1))
        cumulants.append(moments[order] - lower)
    return np.array([cumulants[order - 1] / cumulants[1] ** (order / 2) for order in range(3, highest + 1)])


def draw_half_line(
    z: Float[np.ndarray, "*shape"], log_phi: Float[np.ndarray, "*shape"], log_u: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """Draw t > 0 such that t - z is standard normal restricted to t > 0, by inversion.

    Args:
        z: the mean of t.
        log_phi: log Φ(z).
        log_u: logarithms of uniform numbers in (0, 1).

    Returns:
        t, the solution of Φ(z - t) = u Φ(z). Below z = -2e3, where z - (z - t) would cancel, the leading term of
        log Φ(z - t) - log Φ(z) = z t - t²/2 (1 + O(z⁻²)).
    """
    t = z - ndtri_exp(log_u + log_phi)
    far = z < _EXPONENTIAL_TAIL_BELOW
    if far.any():
        x, e = -z[far], -log_u[far]
        t[far] = 2 * e / (x + np.sqrt(x * x + 2 * e))
    return np.maximum(t, np.finfo(np.float64).tiny)


__all__ = ["draw_half_line", "half_line_cumulants", "half_line_moments", "half_line_moments_array", "log_ndtr"]
