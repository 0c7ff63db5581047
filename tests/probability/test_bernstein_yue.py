import math

import numpy as np
import pytest

from nngp_prior import log_probability
from nngp_prior.errors import InvalidInput, InvalidKernel
from nngp_prior.probability.bernstein_yue import jensen_bound
from nngp_prior.schemas.specs.data import Constant, RandomLabels
from tests.cases import digits, equicorrelated, equicorrelated_labels, equicorrelated_truth


def _bernstein_yue(K: np.ndarray, labels, **options):
    return log_probability(K, labels, method="bernstein-yue", **options)


def _dense_terms(K: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """log |K'| and a, of the correlations, by an inverse."""
    deviation = np.sqrt(K.diagonal())
    signed = K / np.outer(deviation, deviation) * np.outer(labels, labels)
    inverse = np.linalg.inv(signed)
    return float(np.linalg.slogdet(signed)[1]), (1 - 2 / np.pi) * np.trace(inverse) + 2 / np.pi * inverse.sum()


@pytest.mark.parametrize("labels", [[1, 1], [1, -1]])
@pytest.mark.parametrize("rho", [-0.4, 0.3])
def test_is_unbiased(rho: float, labels: list[int]) -> None:
    """z-scores over seeds against Sheppard's formula, where the variance is finite."""
    K = np.array([[4.0, 2 * rho], [2 * rho, 1.0]])
    truth = log_probability(K, labels, method="closed-form").value
    estimates = [_bernstein_yue(K, labels, draws=2000, seed=seed) for seed in range(60)]
    z = np.array([(e.value - truth) / e.stderr for e in estimates])
    assert abs(z.mean()) < 4 / math.sqrt(60)
    assert 0.7 < z.std() < 1.4


def test_agrees_with_the_closed_form_in_more_dimensions() -> None:
    labels = equicorrelated_labels(6, "mixed")
    estimate = _bernstein_yue(equicorrelated(6, 0.2), labels, draws=200_000)
    assert estimate.stderr is not None
    assert abs(estimate.value - equicorrelated_truth(0.2, labels)) < 4 * estimate.stderr
    assert estimate.stderr < 0.02


@pytest.mark.parametrize("n", [1, 5, 2000])
def test_value_and_bound_are_exact_for_independent_inputs(n: int) -> None:
    estimate = _bernstein_yue(np.diag(np.linspace(1, 9, n)), np.ones(n, dtype=int), draws=100)
    for value in (estimate.value, estimate.diagnostics["c1"], estimate.diagnostics["c1_optimal_scale"]):
        assert value == pytest.approx(-n * math.log(2), rel=1e-12)


def test_bounds_of_fifty_equicorrelated_inputs() -> None:
    """Where the truth is -log 51 = -3.93; with n/5 for n (log 2 - ½), as published, C1 is 19.97."""
    estimate = _bernstein_yue(equicorrelated(50, 0.5), np.ones(50, dtype=int), draws=100)
    assert estimate.diagnostics["c1"] == pytest.approx(-19.97 + 50 * (1 / 5 - math.log(2) + 0.5), abs=0.01)
    assert estimate.diagnostics["c1_optimal_scale"] == pytest.approx(-11.68, abs=0.01)
    assert estimate.lower_bound() <= -math.log(51)


@pytest.mark.parametrize("labelling", [Constant(), RandomLabels()])
def test_bounds_are_jensens(labelling) -> None:
    K, labels = digits(80, labelling)
    diagnostics = _bernstein_yue(K, labels, draws=100).diagnostics
    log_determinant, a = _dense_terms(K, labels)
    n = 80
    assert diagnostics["c1_optimal_scale"] == pytest.approx(
        -n * math.log(2) - 0.5 * log_determinant - n / 2 * math.log(a / n), rel=1e-10
    )
    alpha = math.exp(log_determinant / n)
    assert diagnostics["c1"] == pytest.approx(-n * math.log(2) + n / 2 - alpha * a / 2, rel=1e-10)
    for factor in (0.5, 0.99, 1.01, 2.0):
        assert jensen_bound(n, log_determinant, a, factor * n / a) < diagnostics["c1_optimal_scale"]
    smc = log_probability(K, labels)
    assert diagnostics["c1"] < diagnostics["c1_optimal_scale"] < smc.value - 1


def test_heavy_tails_are_told_and_the_bound_still_holds() -> None:
    estimate = _bernstein_yue(equicorrelated(100, 0.5), np.ones(100, dtype=int))
    assert estimate.status == "heavy-tailed"
    assert "cannot be trusted, the lower bound can" in estimate.message
    certain = estimate.diagnostics["c1_optimal_scale"]
    assert estimate.lower_bound(1e-9) == pytest.approx(certain)
    assert estimate.value < certain  # far below a certain bound: so much for the value
    assert estimate.interval() == (pytest.approx(certain), 0.0)
    assert certain < -math.log(101)


def test_status_follows_the_tail_index() -> None:
    """Along 1/√n the index is 1 - α/λ, λ the largest eigenvalue: 0.60 for n = 3, ρ = ½, and 0.31 for n = 3, ρ = 0.2."""
    ones = np.ones(3, dtype=int)
    heavy, light = (
        [_bernstein_yue(equicorrelated(3, rho), ones, seed=seed).status for seed in range(30)] for rho in (0.5, 0.2)
    )
    assert heavy.count("heavy-tailed") >= 15
    assert light.count("ok") >= 27


def test_lower_bound_is_the_better_of_two() -> None:
    K, labels = equicorrelated(2, 0.5), [1, 1]
    many, few = (_bernstein_yue(K, labels, draws=draws) for draws in (50_000, 4))
    certain = many.diagnostics["c1_optimal_scale"]
    assert many.evidence is not None
    assert few.evidence is not None
    assert certain < many.lower_bound(0.05) < -math.log(3)
    assert few.lower_bound(0.01) == certain
    assert few.evidence.lower_bound(0.01) == few.evidence.certain == certain


def test_same_seed_same_value() -> None:
    K, labels = equicorrelated(4, 0.3), [1, 1, -1, 1]
    values = [_bernstein_yue(K, labels, seed=seed).value for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]


def test_chunks_of_draws_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    K, labels = equicorrelated(4, 0.3), [1, 1, -1, 1]
    whole = _bernstein_yue(K, labels, draws=1000)
    monkeypatch.setattr("nngp_prior.probability.bernstein_yue._CHUNK_BYTES", 8 * 4 * 7)
    assert _bernstein_yue(K, labels, draws=1000).value == pytest.approx(whole.value, abs=1e-12)


def test_a_singular_kernel_is_refused_and_jitter_helps() -> None:
    A = np.random.default_rng(0).standard_normal((5, 3))
    with pytest.raises(InvalidKernel, match=r"K: is singular \(rank 3 of 5 distinct inputs\).*Pass jitter"):
        _bernstein_yue(A @ A.T, np.ones(5, dtype=int))
    estimate = _bernstein_yue(A @ A.T, np.ones(5, dtype=int), jitter=1e-2)
    assert "estimate of K + cI" in estimate.message


def test_duplicates_do_not_count() -> None:
    K = equicorrelated(3, 0.4)
    twice = [0, 1, 2, 1]
    single, doubled = _bernstein_yue(K, [1, 1, -1]), _bernstein_yue(K[np.ix_(twice, twice)], [1, 1, -1, 1])
    assert doubled.diagnostics["c1_optimal_scale"] == pytest.approx(single.diagnostics["c1_optimal_scale"], abs=1e-12)
    assert doubled.n == 4


def test_one_draw_has_no_spread() -> None:
    with pytest.raises(InvalidInput, match="draws: got 1"):
        _bernstein_yue(np.eye(2), [1, 1], draws=1)
