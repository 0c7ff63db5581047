"""Duplicated inputs and kernels without full rank, which are normal and have exact answers."""

import math

import numpy as np
import pytest
from scipy.special import logsumexp

from nngp_prior import FullyConnected, kernel, log_probabilities, log_probability
from nngp_prior.schemas.specs.data import Threshold
from tests.cases import digits
from tests.probability.oracles import all_labellings


def test_duplicates_with_equal_labels_do_not_count() -> None:
    K, labels = digits(40, Threshold(at=5))
    twice = np.concatenate([np.arange(40), np.arange(0, 40, 2)])
    single = log_probability(K, labels)
    doubled = log_probability(K[np.ix_(twice, twice)], labels[twice])
    assert doubled.diagnostics["distinct_inputs"] == 40
    assert abs(doubled.value - single.value) < 4 * math.hypot(single.stderr or 0, doubled.stderr or 0)


@pytest.mark.parametrize("method", ["smc", "ep", "ep2", "bernstein-yue", "sampling", "closed-form"])
def test_contradictory_duplicates_are_impossible(method: str) -> None:
    K = np.array([[1.0, 0.5, 1.0], [0.5, 1.0, 0.5], [1.0, 0.5, 1.0]])
    estimate = log_probability(K, [1, 1, -1], method=method)
    assert estimate.value == -math.inf
    assert estimate.status == "impossible"
    assert "inputs 0 and 2" in estimate.message
    assert log_probability(K, [1, 1, 1], method="closed-form").value == pytest.approx(math.log(1 / 3), abs=1e-10)


def test_opposite_inputs_have_opposite_labels() -> None:
    """The perceptron without bias: f(-2x) = -2 f(x)."""
    X = np.array([[1.0, 0.0], [-2.0, 0.0], [0.6, 0.8]])
    assert log_probability(X @ X.T, [1, 1, 1]).value == -math.inf
    possible = log_probability(X @ X.T, [1, -1, 1])
    truth = math.log(0.25 + math.asin(0.6) / (2 * math.pi))
    assert abs(possible.value - truth) < 4 * (possible.stderr or 0) + 1e-12


def test_arcs_of_the_circle() -> None:
    """Inputs in the plane: a labelling's probability is its arc of directions over 2π; without an arc it is 0."""
    angles = np.array([0.1, 0.7, 1.5, 2.9])
    X = np.column_stack([np.cos(angles), np.sin(angles)]) * [[1.0], [3.0], [0.5], [2.0]]
    estimates = log_probabilities(X @ X.T, all_labellings(4), seed=1)
    boundaries = np.sort(np.concatenate([angles + np.pi / 2, angles - np.pi / 2]) % (2 * np.pi))
    arcs = np.diff(np.append(boundaries, boundaries[0] + 2 * np.pi))
    middle = boundaries + arcs / 2
    truths = {tuple(np.sign(X @ [math.cos(t), math.sin(t)]).astype(int)): a for t, a in zip(middle, arcs, strict=True)}
    for labels, estimate in zip(all_labellings(4), estimates, strict=True):
        if tuple(labels) in truths:
            truth = math.log(truths[tuple(labels)] / (2 * math.pi))
            assert abs(estimate.value - truth) < 4 * (estimate.stderr or 0)
            assert estimate.diagnostics["rank"] == 2
        else:
            assert estimate.value == -math.inf
            assert estimate.status == "no-hits"


@pytest.mark.parametrize("labels", [[1, 1, 1], [1, -1, 1], [1, 1, -1], [-1, 1, 1]])
def test_three_inputs_in_a_plane_have_a_closed_form(labels: list[int]) -> None:
    angles = np.array([0.1, 0.7, 1.5])
    X = np.column_stack([np.cos(angles), np.sin(angles)])
    exact, counted = (log_probability(X @ X.T, labels, method=m) for m in ("closed-form", "sampling"))
    if exact.value == -math.inf:
        assert exact.status == "impossible"
        assert counted.status == "no-hits"
    else:
        assert abs(exact.value - counted.value) < 4 * (counted.stderr or 0)


def test_ep_survives_rounding_by_making_its_covariance_anew() -> None:
    """exp(-ε|x - x'|), labels that change sign once: P is in proportion to √ε, and so is EP's approximation of it.

    At ε = 1e-6 even float64 updates of Σ lose all digits.
    """
    x = np.linspace(0, 1, 100)
    labels = np.where(x > 0.5, 1, -1)
    estimates = [log_probability(np.exp(-e * np.abs(x[:, None] - x)), labels, method="ep") for e in (1e-3, 1e-6)]
    assert [estimate.status for estimate in estimates] == ["ok", "ok"]
    assert estimates[0].value - estimates[1].value == pytest.approx(0.5 * math.log(1000), abs=0.01)


@pytest.mark.parametrize("rank", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_labellings_of_a_low_rank_kernel_sum_to_one(rank: int) -> None:
    A = np.random.default_rng(rank).standard_normal((5, rank))
    estimates = log_probabilities(A @ A.T, all_labellings(5), particles=64, replicates=16)
    values = np.array([e.value for e in estimates])
    error = math.sqrt(sum((math.exp(e.value) * e.stderr) ** 2 for e in estimates if e.stderr and e.value > -math.inf))
    assert abs(math.exp(logsumexp(values)) - 1) < 4 * error + 1e-12
    assert error < 0.02
    # Cover (1965): 2 Σ_{k<rank} C(n-1, k) labellings can be had by a linear function of rank features.
    assert np.isfinite(values).sum() <= 2 * sum(math.comb(4, k) for k in range(rank))


def test_nearly_singular_kernel_is_right() -> None:
    """Conditional variances of 1e-9: float32 proposals would not do, and are not used."""
    x = np.linspace(0, 1, 60)
    K = np.exp(-0.5 * (x[:, None] - x) ** 2 / 0.3**2) + 1e-9 * np.eye(60)
    estimate = log_probability(K, np.where(x > 0.4, 1, -1))
    counted = log_probability(K, np.where(x > 0.4, 1, -1), method="sampling", draws=400_000)
    assert abs(estimate.value - counted.value) < 4 * math.hypot(estimate.stderr or 0, counted.stderr or 0)


def _grid(side: int) -> np.ndarray:
    """exp(-0.1 d²) of the places of a square grid, row by row: conditional variances of 3e-6, eigenvalues of 1e-16."""
    places = np.array([(i, j) for i in range(side) for j in range(side)], dtype=float)
    return np.exp(-0.1 * np.square(places[:, None] - places).sum(axis=2))


def test_a_smooth_kernel_on_a_grid_needs_float64() -> None:
    """The truth by long runs in another order of visits; proposals in float32 were up to 4 nats off."""
    estimate = log_probability(_grid(20), np.ones(400))
    assert abs(estimate.value + 24.09) < 4 * math.hypot(estimate.stderr or 0, 0.05)
    assert estimate.diagnostics["proposal_precision"] == "float64"


def test_log_p_that_depends_on_rounding_says_so() -> None:
    """100 points of a line whose conditional variances reach 4e-15, in two orders of visits.

    The prior has -149.218, K as rounded to float64 -149.356, both ± 0.005, by arithmetic of 60 digits.
    """
    x = np.linspace(-10 * np.pi, 10 * np.pi, 100)
    K = kernel(FullyConnected(depth=2, weight_std=1.5, bias_std=0.05), x[:, None])
    labels = np.where(np.sin(x) + np.sin(2 * x) > 1e-9, 1, -1)
    for order in (np.arange(100), np.random.default_rng(0).permutation(100)):
        estimate = log_probability(K[np.ix_(order, order)], labels[order])
        assert estimate.status == "rounding"
        assert estimate.diagnostics["rank"] == 100
        low, high = estimate.interval() or (0, 0)
        assert low < -149.356 < -149.218 < high
        assert high - low < 3
        assert 0.1 < estimate.rounding < estimate.stderr
        assert log_probability(K[np.ix_(order, order)], labels[order], method="ep").status == "rounding"


def test_a_rank_deficient_kernel_does_not_depend_on_rounding() -> None:
    """Smooth, 300 inputs, numerical rank 16: what is dropped is below rounding and does not matter."""
    x = np.linspace(0, 1, 300)
    K = np.exp(-0.5 * (x[:, None] - x) ** 2 / 0.3**2)
    estimate = log_probability(K, np.where(x > 0.4, 1, -1))
    assert estimate.status == "ok"
    assert estimate.rounding < 0.01


@pytest.mark.parametrize("n", [30, 100])
def test_negative_correlations_need_more_sweeps(n: int) -> None:
    """First differences of white noise, all positive: an ordering of n + 1 numbers, P = 1/(n + 1)!."""
    K = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    estimate = log_probability(K, np.ones(n))
    assert estimate.status == "ok"
    assert estimate.stderr < 0.01
    assert abs(estimate.value + math.lgamma(n + 2)) < 4 * estimate.stderr
