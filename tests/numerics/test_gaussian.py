import math

import mpmath
import numpy as np
import pytest
from scipy.stats import kstest, truncnorm

from nngp_prior.numerics.gaussian import (
    draw_half_line,
    half_line_cumulants,
    half_line_moments,
    half_line_moments_array,
    log_ndtr,
)

_FAR = [-1e8, -1e6, -1e4, -1e3, -300.0, -50.0, -20.0, -10.0, -5.001]
_NEAR = [-4.999, -3.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 3.0, 8.0, 20.0, 37.0]


def _exact(z: float) -> tuple[float, float, float, float]:
    """h, r, V, D with as many digits as the cancellation at -1e8 eats up."""
    with mpmath.workdps(120):
        x = mpmath.mpf(z)
        if z < -100:  # mpmath's erfc loses no digits, but φ/Φ is steadier through the continued fraction's own limit
            h = mpmath.exp(-x * x / 2) / mpmath.sqrt(2 * mpmath.pi) / (mpmath.erfc(-x / mpmath.sqrt(2)) / 2)
        else:
            h = mpmath.npdf(x) / mpmath.ncdf(x)
        r = h * (x + h)
        return float(h), float(r), float(1 - r), float(1 + x * (x + h))


@pytest.mark.parametrize("z", _FAR + _NEAR)
def test_moments_have_ten_digits(z: float) -> None:
    np.testing.assert_allclose(half_line_moments(z), _exact(z), rtol=1e-10)


def test_moments_beyond_underflow() -> None:
    assert half_line_moments(40.0) == (0.0, 0.0, 1.0, 1601.0)


def test_moments_of_many_numbers_have_ten_digits() -> None:
    z = np.array(_FAR + _NEAR)
    exact = np.array([_exact(x) for x in z]).T
    np.testing.assert_allclose(half_line_moments_array(z), exact, rtol=1e-10)
    np.testing.assert_array_equal(np.array(half_line_moments_array(np.array([40.0, 1e8])))[:3].T, [[0, 0, 1]] * 2)
    assert half_line_moments_array(np.array([]))[0].shape == (0,)


@pytest.mark.parametrize("z", [-1e4, -300.0, -30.0, -5.0, -3.001, -2.999, -2.0, -1.0, 0.0, 0.7, 3.0, 8.0, 20.0, 36.0])
def test_cumulants_are_derivatives_of_log_phi(z: float) -> None:
    """The power series of log Φ(z + t) in t, with the digits that differences eat up far to the left."""
    factorials = np.array([math.factorial(order - 1) for order in range(3, 9)])
    with mpmath.workdps(120):
        c = [t * mpmath.factorial(order) for order, t in enumerate(_log_phi_series(mpmath.mpf(z), 8))]
        exact = [float(c[order] / (1 + c[2]) ** (mpmath.mpf(order) / 2)) for order in range(3, 9)]
    ours = half_line_cumulants(np.array([z]), 8)[:, 0]
    np.testing.assert_allclose(ours / factorials, exact / factorials, rtol=0, atol=2e-10)
    np.testing.assert_allclose(ours[0], exact[0], rtol=1e-10)


def _log_phi_series(z: mpmath.mpf, highest: int) -> list[mpmath.mpf]:
    """Of log Φ from those of φ, by φ' = -xφ, and of its integral Φ; from Φ (log Φ)' = Φ'."""
    density = [mpmath.npdf(z), -z * mpmath.npdf(z)]
    for k in range(1, highest):
        density.append(-(z * density[k] + density[k - 1]) / (k + 1))
    phi = [mpmath.erfc(-z / mpmath.sqrt(2)) / 2] + [a / (k + 1) for k, a in enumerate(density)]
    series = [mpmath.log(phi[0])]
    for k in range(1, highest + 1):
        products = sum((j * series[j] * phi[k - j] for j in range(1, k)), mpmath.mpf(0))
        series.append((phi[k] - products / k) / phi[0])
    return series


def test_cumulants_far_out_are_the_exponential_distributions_or_none() -> None:
    z = np.array([-1e9, 50.0])
    np.testing.assert_allclose(half_line_cumulants(z, 8).T, [[2, 6, 24, 120, 720, 5040], [0] * 6], rtol=1e-10)
    assert half_line_cumulants(z, 3).shape == (1, 2)


@pytest.mark.parametrize("z", [-2e4, -1.9e3, -100.0, -3.0, 0.0, 4.0, 9.0])
def test_draws_have_the_restricted_distribution(z: float) -> None:
    u = np.random.default_rng(0).random(4000)
    t = draw_half_line(np.full(4000, z), log_ndtr(np.full(4000, z)), np.log(u))
    assert np.all(t > 0)
    if z < -30:  # t is exponential up to terms of order z⁻²
        assert kstest(t * -z, "expon").pvalue > 1e-3
    else:
        assert kstest(t, truncnorm(-z, np.inf, loc=z).cdf).pvalue > 1e-3


def test_draws_join_where_the_formula_changes() -> None:
    log_u = np.log(np.linspace(0.01, 0.99, 50))
    below, above = (draw_half_line(np.full(50, z), log_ndtr(np.full(50, z)), log_u) for z in (-2000.001, -1999.999))
    # In units of log u, of which t is about -1/z; the two z differ by 1e-6 relative.
    np.testing.assert_allclose(below * 2000, above * 2000, atol=1e-5)
