"""Duals against Gauss-Hermite quadrature, and where closed forms are delicate: copies, opposites, small variances."""

import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy.special import erf

from nngp_prior.kernels.dual_activations import dual

NAMES = ["relu", "leaky-relu", "erf", "gelu", "sin", "cos", "identity"]
SLOPE = 0.2


def _cdf(x: np.ndarray) -> np.ndarray:
    return (1 + erf(x / math.sqrt(2))) / 2


def _density(x: np.ndarray) -> np.ndarray:
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


FUNCTIONS = {
    "erf": (erf, lambda x: 2 / math.sqrt(math.pi) * np.exp(-x * x)),
    "gelu": (lambda x: x * _cdf(x), lambda x: _cdf(x) + x * _density(x)),
    "sin": (np.sin, np.cos),
    "cos": (np.cos, lambda x: -np.sin(x)),
    "identity": (lambda x: x, np.ones_like),
}


def expectations(name: str, q: float, c: float, q2: float, dtype: str = "float64") -> tuple[float, float]:
    """E[φ(u) φ(v)] and E[φ'(u) φ'(v)] for variances q and q2 and correlation c."""
    with jax.enable_x64(dtype == "float64"):
        k, q, q2 = (jnp.array(value, dtype) for value in (c * math.sqrt(q * q2), q, q2))
        of = dual(name, SLOPE)
        value, slope = of.expectations(k, of.terms(q), of.terms(q2), True)
        alone, none = of.expectations(k, of.terms(q), of.terms(q2), False)
        assert none is None
        assert alone == value
        return float(value), float(slope)


def quadrature(function, q: float, c: float, q2: float) -> float:
    x, w = np.polynomial.hermite_e.hermegauss(120)
    w = w / w.sum()
    u, v = x[:, None], c * x[:, None] + math.sqrt(1 - c * c) * x
    return float(w @ (function(math.sqrt(q) * u) * function(math.sqrt(q2) * v)) @ w)


@pytest.mark.parametrize("c", [-0.95, -0.4, 0.0, 0.3, 0.9])
@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_smooth_activations_agree_with_quadrature(name: str, c: float) -> None:
    function, slope = FUNCTIONS[name]
    found = expectations(name, 0.4, c, 0.7)
    assert found == pytest.approx((quadrature(function, 0.4, c, 0.7), quadrature(slope, 0.4, c, 0.7)), abs=1e-12)


@pytest.mark.parametrize(("name", "a"), [("relu", 0.0), ("leaky-relu", SLOPE)])
def test_rectifiers_agree_with_the_arc_cosine_formulas(name: str, a: float) -> None:
    """Cho and Saul (2009), in 30 digits."""
    for c in [*np.linspace(-0.999, 0.999, 41), 1 - 1e-9, -1 + 1e-9, 1 - 1e-13]:
        with mpmath.workdps(30):
            correlation = mpmath.mpf(float(c * math.sqrt(6))) / mpmath.sqrt(6)
            θ = mpmath.acos(correlation)
            share = (1 - mpmath.mpf(a)) ** 2 / mpmath.pi
            value = (
                mpmath.sqrt(6)
                / 2
                * ((1 + mpmath.mpf(a) ** 2) * correlation + share * (mpmath.sin(θ) - θ * correlation))
            )
            slope = (1 + mpmath.mpf(a) ** 2 - share * θ) / 2
        found = expectations(name, 2.0, float(c), 3.0)
        assert found[0] == pytest.approx(float(value), abs=2e-15)
        assert found[1] == pytest.approx(float(slope), abs=2e-15 + 3e-16 / math.sqrt(1 - c * c))


@pytest.mark.parametrize("q", [1e-14, 1e-3, 1.0, 1e4])
@pytest.mark.parametrize("name", NAMES)
def test_copies_stay_copies_and_slopes_are_finite(name: str, q: float) -> None:
    """E[φ(u)²] of two copies with different variances by rounding: relative accuracy, at small variances too."""
    own, slope = expectations(name, q, 1.0, q)
    for c in (1 - 2e-16, 1 + 2e-16):
        copy, slope_of_copy = expectations(name, q, c, q)
        assert copy == pytest.approx(own, rel=3e-15 * (1 + (q if name in ("sin", "cos") else 0)))
        assert slope_of_copy == pytest.approx(slope, rel=1e-12 * max(1, q))
    assert np.isfinite(expectations(name, q, -1.0, q)).all()


def test_own_variances() -> None:
    assert expectations("relu", 3.0, 1.0, 3.0) == pytest.approx((1.5, 0.5), rel=1e-15)
    assert expectations("relu", 3.0, -1.0, 3.0) == (0, 0)
    assert expectations("leaky-relu", 3.0, 1.0, 3.0) == pytest.approx(
        (1.5 * (1 + SLOPE**2), 0.5 * (1 + SLOPE**2)), rel=1e-15
    )
    assert expectations("erf", 1e-12, 1.0, 1e-12)[0] == pytest.approx(4e-12 / math.pi, rel=1e-11)
    assert expectations("sin", 1e-12, 1.0, 1e-12)[0] == pytest.approx(1e-12, rel=1e-11)
    assert expectations("sin", 1e4, 1.0, 1e4)[0] == pytest.approx(0.5, rel=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_an_input_without_variance(name: str) -> None:
    function, _ = FUNCTIONS.get(name, (lambda x: np.maximum(x, SLOPE * x), None))
    value, slope = expectations(name, 0.0, 0.0, 2.0)
    assert value == pytest.approx(quadrature(function, 0.0, 0.0, 2.0) if name == "cos" else 0, abs=1e-12)
    assert np.isfinite(slope)


@pytest.mark.parametrize("name", NAMES)
def test_float32(name: str) -> None:
    for c in np.linspace(-1, 1, 21):
        assert expectations(name, 0.4, c, 0.7, "float32") == pytest.approx(
            expectations(name, 0.4, c, 0.7), abs=2e-6 if abs(c) < 0.99 else 1e-3
        )
