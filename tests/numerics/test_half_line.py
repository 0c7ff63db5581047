"""Against SciPy's functions, and draws in the logarithm of the probability that they invert."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erfcx, log_ndtr, ndtri_exp

from nngp_prior.numerics import half_line
from nngp_prior.numerics.gaussian import half_line_moments_array


@pytest.fixture(autouse=True)
def in_float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def far_and_near() -> np.ndarray:
    """From -1e8 to 37."""
    return np.concatenate([-np.logspace(8, -8, 400), np.linspace(-8, 8, 401), np.logspace(-8, np.log10(37), 200)])


@jax.jit
def draw(z: jax.Array, log_u: jax.Array) -> jax.Array:
    return half_line.draw(z, half_line.positive_part(z), log_u)


def test_scaled_tail_and_positive_part() -> None:
    a = np.concatenate([[0.0], np.logspace(-8, 8, 2000)])
    np.testing.assert_allclose(half_line.scaled_tail(jnp.asarray(a)), 0.5 * erfcx(a / np.sqrt(2)), rtol=2e-13)
    z = far_and_near()
    part = np.asarray(half_line.positive_part(jnp.asarray(z)))
    expected = np.where(z < 0, 0.5 * erfcx(np.abs(z) / np.sqrt(2)), np.exp(log_ndtr(z)))
    np.testing.assert_allclose(part, expected, rtol=2e-13)


def test_log() -> None:
    x = np.concatenate([np.logspace(-307, 308, 5000), 1 + np.linspace(-0.5, 0.6, 2001)])
    np.testing.assert_allclose(half_line.log(jnp.asarray(x)), np.log(x), rtol=1e-15, atol=3e-16)


def test_moments_are_those_of_numpy() -> None:
    z = far_and_near()
    for here, there in zip(jax.jit(half_line.moments)(z), half_line_moments_array(z), strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-10, atol=1e-290)


def test_draws_have_the_probability_asked_for() -> None:
    """Near: log Φ(z - t) - log Φ(z) = log u. Far below: the same from z t - ½ t² and the scaled tails."""
    u = np.concatenate([np.logspace(-17, -0.31, 60), 1 - np.logspace(-0.31, -15, 40)])
    z, log_u = (x.ravel() for x in np.meshgrid(far_and_near(), np.log(u)))
    t = np.asarray(draw(z, log_u))
    assert np.all(t > 0)
    a = np.maximum(-z, 0)
    left = z * t - 0.5 * t * t + np.log(erfcx((a + t) / np.sqrt(2))) - np.log(erfcx(a / np.sqrt(2)))
    near = log_ndtr(z - t) - log_ndtr(z)
    reached = np.where(z < 0, left, near)
    # An error in t of one rounding changes log Φ(z - t) by t h(z - t) ε.
    rounding = np.finfo(float).eps * (t + np.abs(z)) * np.where(z < 0, 1 / (a + t + 1), np.maximum(1, t - z))
    allowed = np.where(log_u > np.log(1e-3), 2e-11, np.where(log_u > np.log(1e-9), 1e-8, 2e-7))
    np.testing.assert_array_less(np.abs(reached - log_u), allowed + 8 * rounding)


def test_draws_are_those_of_scipy_where_it_has_digits() -> None:
    z, log_u = (x.ravel() for x in np.meshgrid(np.linspace(-30, 8, 77), np.log(np.linspace(0.01, 0.99, 45))))
    np.testing.assert_allclose(draw(z, log_u), z - ndtri_exp(log_u + log_ndtr(z)), rtol=1e-9, atol=1e-12)
