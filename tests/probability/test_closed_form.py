import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import ndtr
from scipy.stats import norm

from nngp_prior import log_probability
from nngp_prior.errors import InvalidKernel
from nngp_prior.probability.closed_form import orthant_2, orthant_3, product_loadings
from tests.cases import equicorrelated, equicorrelated_labels


def _closed_form(K: np.ndarray, labels: list[int] | np.ndarray) -> float:
    estimate = log_probability(K, labels, method="closed-form")
    assert estimate.stderr == 0
    return estimate.value


def test_one_input() -> None:
    assert _closed_form(np.array([[7.0]]), [-1]) == pytest.approx(-math.log(2), abs=1e-15)


@pytest.mark.parametrize("rho", [-0.99, -0.5, 0.0, 0.3, 0.95])
def test_two_inputs_against_sheppard(rho: float) -> None:
    K = np.array([[4.0, 2 * rho], [2 * rho, 1.0]])
    assert _closed_form(K, [1, 1]) == pytest.approx(math.log(0.25 + math.asin(rho) / (2 * math.pi)), abs=1e-10)
    assert _closed_form(K, [1, -1]) == pytest.approx(math.log(0.25 - math.asin(rho) / (2 * math.pi)), abs=1e-10)


def test_two_inputs_keep_digits_where_p_is_tiny() -> None:
    """Near ρ = -1 + δ the probability is √(2δ)/2π up to order δ; 1/4 + arcsin would have none of its digits."""
    assert orthant_2(-1 + 2.0**-50) == pytest.approx(math.sqrt(2 * 2.0**-50) / (2 * math.pi), rel=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_three_inputs_against_the_arcsines_and_quadrature(seed: int) -> None:
    A = np.random.default_rng(seed).standard_normal((3, 3))
    K = A @ A.T
    C = K / np.sqrt(np.outer(K.diagonal(), K.diagonal()))
    arcsines = math.asin(C[0, 1]) + math.asin(C[0, 2]) + math.asin(C[1, 2])
    assert orthant_3(C) == pytest.approx(0.125 + arcsines / (4 * math.pi), abs=1e-12)

    def given_first(x: float) -> float:
        m, V = C[1:, 0] * x, C[1:, 1:] - np.outer(C[1:, 0], C[1:, 0])
        slope, deviation = V[0, 1] / V[0, 0], math.sqrt(V[1, 1] - V[0, 1] ** 2 / V[0, 0])

        def given_second(y: float) -> float:
            density = math.exp(-((y - m[0]) ** 2) / (2 * V[0, 0])) / math.sqrt(2 * math.pi * V[0, 0])
            return density * ndtr((m[1] + slope * (y - m[0])) / deviation)

        upper = max(0.0, m[0]) + 12 * math.sqrt(V[0, 0])
        return (
            math.exp(-x * x / 2)
            / math.sqrt(2 * math.pi)
            * quad(given_second, 0, upper, epsabs=1e-12, limit=200, points=[max(m[0], 0)])[0]
        )

    assert orthant_3(C) == pytest.approx(quad(given_first, 0, 12, epsabs=1e-10, limit=200)[0], abs=1e-7)


@pytest.mark.parametrize("n", [4, 30, 1000, 10_000])
def test_equicorrelated_half_is_a_rank_statistic(n: int) -> None:
    """At ρ = ½ log P = log(p! q!/(n+1)!): f_i = x_i - x_0 with x independent, and x_0 has q of the others above."""
    if n > 1000:
        from nngp_prior.probability.closed_form import log_orthant_product

        assert log_orthant_product(np.full(n, math.sqrt(0.5))) == pytest.approx(-math.log(n + 1), rel=1e-12)
        return
    labels = equicorrelated_labels(n, "mixed")
    p = int((labels > 0).sum())
    truth = math.lgamma(p + 1) + math.lgamma(n - p + 1) - math.lgamma(n + 2)
    assert _closed_form(equicorrelated(n, 0.5), labels) == pytest.approx(truth, rel=1e-10)


@pytest.mark.parametrize("signs", [[1, 1, 1, 1, 1], [1, -1, 1, 1, -1]])
def test_product_correlation_against_adaptive_quadrature(signs: list[int]) -> None:
    loadings = np.array([0.9, -0.3, 0.5, 0.99, 0.05])
    K = np.outer(loadings, loadings)
    np.fill_diagonal(K, 1.0)
    slopes = np.array(signs) * loadings / np.sqrt(1 - loadings**2)
    truth = quad(lambda x: norm.pdf(x) * np.prod(norm.cdf(slopes * x)), -12, 12, points=[0], epsabs=0, epsrel=1e-12)[0]
    variances = np.array([1.0, 9.0, 0.1, 2.0, 5.0])
    K = K * np.sqrt(np.outer(variances, variances))
    assert _closed_form(K, signs) == pytest.approx(math.log(truth), abs=1e-10)


def test_independent_inputs() -> None:
    assert _closed_form(np.diag(np.arange(1.0, 9.0)), np.ones(8, dtype=int)) == pytest.approx(-8 * math.log(2))


def test_structure_is_recognised_or_refused() -> None:
    one_pair = np.eye(4)
    one_pair[1, 3] = one_pair[3, 1] = -0.4
    loadings = product_loadings(one_pair)
    assert loadings is not None
    assert loadings[1] * loadings[3] == pytest.approx(-0.4)
    two_pairs = one_pair.copy()
    two_pairs[0, 2] = two_pairs[2, 0] = 0.4
    assert product_loadings(two_pairs) is None
    assert product_loadings(equicorrelated(4, -0.2)) is None
    with pytest.raises(InvalidKernel, match=r"no closed form.*Use method='smc'"):
        log_probability(two_pairs, [1, 1, 1, 1], method="closed-form")
