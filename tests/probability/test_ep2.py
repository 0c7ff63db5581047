import dataclasses
import math

import numpy as np
import pytest
from scipy.stats import truncnorm

from nngp_prior import log_probability
from nngp_prior.errors import InvalidInput
from nngp_prior.probability.ep import EPResult, Sites
from nngp_prior.probability.ep2 import correction_terms
from nngp_prior.schemas.specs.data import OneVsRest, RandomLabels, Threshold
from tests.cases import digits, equicorrelated, equicorrelated_labels, equicorrelated_truth

_PRECISE = {"precision": "float64", "tolerance": 1e-9}


@pytest.mark.parametrize("rho", [-0.9, -0.5, -0.1, 0.1, 0.5, 0.8])
def test_removes_nine_tenths_of_eps_error_on_two_inputs(rho: float) -> None:
    K = np.array([[9.0, 3 * rho], [3 * rho, 1.0]])
    truth, ep, ep2 = (log_probability(K, [1, 1], method=m).value for m in ("closed-form", "ep", "ep2"))
    assert abs(ep2 - truth) < 0.15 * abs(ep - truth)


@pytest.mark.parametrize("n", [3, 10, 100, 300])
@pytest.mark.parametrize("rho", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("kind", ["positive", "mixed", "random"])
def test_error_is_a_small_part_of_the_correction(n: int, rho: float, kind: str) -> None:
    labels = equicorrelated_labels(n, kind)
    estimate = log_probability(equicorrelated(n, rho), labels, method="ep2", **_PRECISE)
    assert estimate.status == "ok"
    error = estimate.value - equicorrelated_truth(rho, labels)
    assert abs(error) < abs(estimate.diagnostics["correction"]) / 6 + 2e-4


def test_a_hundred_positive_labels() -> None:
    """-log 101 = -4.61512; EP says -4.6467."""
    estimate = log_probability(equicorrelated(100, 0.5), np.ones(100, dtype=int), method="ep2")
    assert estimate.value == pytest.approx(-math.log(101), abs=1e-3)
    assert estimate.diagnostics["log_z_ep"] == pytest.approx(-4.6467, abs=1e-4)


@pytest.mark.parametrize("labelling", [OneVsRest(label=3), RandomLabels()])
def test_agrees_with_smc_on_digits(labelling) -> None:
    K, labels = digits(100, labelling)
    ep2 = log_probability(K, labels, method="ep2")
    smc = log_probability(K, labels, particles=128, replicates=64)
    assert smc.stderr is not None
    assert ep2.status == "ok"
    ep_error = abs(ep2.diagnostics["log_z_ep"] - smc.value)
    assert abs(ep2.value - smc.value) < ep_error / 6 + 3 * smc.stderr


def _ep_result(n: int, seed: int) -> tuple[EPResult, np.ndarray, np.ndarray]:
    """Any sites with proper cavities, not those of a fixed point; with Σ and z by dense algebra."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, n + 5)) + rng.standard_normal(n + 5)
    K = A @ A.T / n
    s, nu = rng.gamma(1, size=n), rng.standard_normal(n)
    Sigma = np.linalg.inv(np.linalg.inv(K) + np.diag(s))
    mean = Sigma @ nu
    variance = np.diagonal(Sigma)
    z = (mean / variance - nu) / np.sqrt(1 / variance - s)
    L = np.asfortranarray(np.linalg.cholesky(Sigma))
    return EPResult(Sites(s, nu), L, mean, -1.0, 1, True, 0.0, 0.0, "float64"), Sigma, z


@pytest.mark.parametrize("n", [2, 5, 300, 513])
def test_terms_are_sums_over_pairs_of_skewness_and_kurtosis(n: int) -> None:
    """SciPy's moments of truncated normals, every pair twice, the whole matrix at once."""
    ep, Sigma, z = _ep_result(n, n)
    rho = Sigma / np.sqrt(np.outer(np.diagonal(Sigma), np.diagonal(Sigma)))
    np.fill_diagonal(rho, 0.0)
    skewness, kurtosis = truncnorm.stats(-z, np.inf, moments="sk")
    labels = np.random.default_rng(n).choice([-1.0, 1.0], n)
    ep = dataclasses.replace(ep, L=np.asfortranarray(np.linalg.cholesky(Sigma * np.outer(labels, labels))))
    terms, typical = correction_terms(ep, labels, 4)
    assert terms[0] == pytest.approx(skewness @ rho**3 @ skewness / 12, rel=1e-7)
    assert terms[1] == pytest.approx(kurtosis @ rho**4 @ kurtosis / 48, rel=1e-6)
    weights = np.outer(skewness, skewness) * np.abs(rho) ** 3
    assert typical == pytest.approx((weights * np.abs(rho)).sum() / weights.sum(), rel=1e-7)


def test_more_cumulants_help_where_correlations_are_weak() -> None:
    K, truth = equicorrelated(2, 0.5), -math.log(3)
    errors = [
        abs(log_probability(K, [1, 1], method="ep2", highest_cumulant=highest, **_PRECISE).value - truth)
        for highest in (3, 4, 6)
    ]
    assert errors[0] > 1.5 * errors[1] > 1.5 * errors[2]
    assert errors[2] < 1e-5


def test_more_cumulants_are_more_terms() -> None:
    K, labels = digits(40, Threshold(at=5))
    eight = log_probability(K, labels, method="ep2", highest_cumulant=8)
    terms = eight.diagnostics["correction_terms"]
    assert list(terms) == ["3", "4", "5", "6", "7", "8"]
    assert eight.value == pytest.approx(eight.diagnostics["log_z_ep"] + sum(terms.values()), abs=1e-12)
    three = log_probability(K, labels, method="ep2")
    assert list(three.diagnostics["correction_terms"]) == ["3", "4"]
    assert three.value == pytest.approx(three.diagnostics["log_z_ep"] + terms["3"], abs=1e-12)


@pytest.mark.parametrize("K", [np.diag([1.0, 5.0, 0.2]), np.ones((4, 4)), [[3.0]]], ids=["independent", "equal", "one"])
def test_has_nothing_to_correct_where_ep_is_exact(K) -> None:
    labels = np.ones(len(K), dtype=int)
    ep, ep2 = (log_probability(K, labels, method=method) for method in ("ep", "ep2"))
    assert ep2.value == pytest.approx(ep.value, abs=1e-12)
    assert ep2.status == "ok"


def test_has_no_error_statement() -> None:
    estimate = log_probability(equicorrelated(5, 0.5), np.ones(5, dtype=int), method="ep2")
    assert estimate.stderr is None
    assert estimate.interval() is None
    assert estimate.lower_bound() is None


def test_says_when_the_correction_is_not_to_be_trusted() -> None:
    """Next term as large; or pairs nearly determined by each other, which is no small perturbation."""
    x = np.linspace(0, 1, 100)
    close = np.exp(-0.5 * (x[:, None] - x) ** 2 / 0.05**2) + 1e-6 * np.eye(100)
    ones = {"constant": equicorrelated(300, 0.99), "close pairs": close}
    for name, K in ones.items():
        labels = np.ones(len(K), dtype=int)
        estimate = log_probability(K, labels, method="ep2")
        assert estimate.status == "not-converged", name
        assert "use smc" in estimate.message
        smc = log_probability(K, labels)
        assert abs(estimate.value - smc.value) > abs(estimate.diagnostics["correction"]) / 6 + 4 * (smc.stderr or 0)


def test_says_when_ep_has_not_converged() -> None:
    K, labels = digits(100, Threshold(at=5))
    estimate = log_probability(K, labels, method="ep2", max_sweeps=1)
    assert estimate.status == "not-converged"
    assert "raise max_sweeps" in estimate.message


def test_says_when_rounding_spoilt_it() -> None:
    x = np.linspace(0, 1, 100)
    estimate = log_probability(np.exp(-1e-6 * np.abs(x[:, None] - x)), np.where(x > 0.5, 1, -1), method="ep2")
    assert estimate.status == "not-converged"
    assert not math.isnan(estimate.value)


@pytest.mark.parametrize("highest", [2, 9])
def test_orders_out_of_range(highest: int) -> None:
    with pytest.raises(InvalidInput, match=f"highest_cumulant: got {highest}"):
        log_probability(np.eye(2), [1, 1], method="ep2", highest_cumulant=highest)
