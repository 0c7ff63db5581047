"""Minimax tilting: its upper bound is certain, and its saddle point is that of the definition."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_ndtr

from nngp_prior import ClosedForm, FullyConnected, MinimaxTilting, kernel, log_probability
from nngp_prior.schemas.specs.data import Constant, RandomLabels, Threshold
from tests.cases import digits, equicorrelated, equicorrelated_labels, equicorrelated_truth

FEW = MinimaxTilting(particles=32, replicates=16)


@pytest.mark.parametrize("kind", ["positive", "mixed", "random"])
@pytest.mark.parametrize("rho", [0.1, 0.6, 0.95])
@pytest.mark.parametrize("n", [2, 5, 40])
def test_against_closed_forms(n: int, rho: float, kind: str) -> None:
    labels = equicorrelated_labels(n, kind)
    truth = equicorrelated_truth(rho, labels)
    estimate = log_probability(equicorrelated(n, rho), labels, "minimax-tilting")
    upper = estimate.upper_bound()
    assert upper is not None
    assert truth <= upper <= 0
    assert estimate.value <= upper
    assert estimate.interval()[1] <= upper  # pyright: ignore[reportOptionalSubscript]
    if estimate.status == "ok":
        assert abs(estimate.value - truth) < 4 * (estimate.stderr or 0) + 1e-9
    assert (estimate.lower_bound(0.01) or 0) < truth + 1e-9


@pytest.mark.parametrize("seed", range(2))
def test_saddle_point_of_the_definition(seed: int) -> None:
    """min over μ of max over x of ψ, by a general optimiser."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((3, 3))
    K = A @ A.T + 0.1 * np.eye(3)
    K /= np.sqrt(np.outer(K.diagonal(), K.diagonal()))
    L = np.linalg.cholesky(K)
    D = L / L.diagonal()[:, None] - np.eye(3)

    def psi(x: np.ndarray, mu: np.ndarray) -> float:
        return float(np.sum(mu**2 / 2 - mu * x + log_ndtr(D @ x + mu)))

    def largest(mu: np.ndarray) -> float:
        mu = np.append(mu, 0.0)  # the last coordinate has none
        found = minimize(lambda x: -psi(np.append(x, 0.0), mu), np.ones(2), method="BFGS", options={"gtol": 1e-9})
        return -float(found.fun)

    expected = minimize(largest, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-11}).fun
    assert log_probability(K, [1, 1, 1], FEW).upper_bound() == pytest.approx(expected, abs=1e-6)


def test_independent_inputs_have_the_value_as_bound() -> None:
    estimate = log_probability(np.diag([1.0, 2.0, 3.0, 4.0]), [1, -1, 1, 1], FEW)
    assert estimate.value == pytest.approx(-4 * math.log(2), abs=1e-12)
    assert estimate.upper_bound() == pytest.approx(-4 * math.log(2), abs=1e-9)


@pytest.mark.parametrize(("labelling", "gap"), [(Constant(), 2.0), (Threshold(at=5), 20.0), (RandomLabels(), 20.0)])
def test_digits(labelling: Constant | Threshold | RandomLabels, gap: float) -> None:
    """The default estimator's interval lies below the bound, not far."""
    K, labels = digits(200, labelling)
    default, found = log_probability(K, labels), log_probability(K, labels, FEW)
    upper = found.upper_bound()
    assert upper is not None
    assert default.interval()[1] < upper < default.value + gap  # pyright: ignore[reportOptionalSubscript]
    assert found.diagnostics["newton_steps"] < 20


def test_enclosure() -> None:
    """Certain from both sides: Bernstein and Yue's bound below."""
    X = np.random.default_rng(0).standard_normal((12, 3))
    K = kernel(FullyConnected(activation="erf", weight_std=3.0), X)
    y = np.where(X[:, 0] > 0, 1, -1)
    lower = log_probability(K, y, "bernstein-yue").evidence
    upper = log_probability(K, y, FEW).upper_bound()
    best = log_probability(K, y, particles=1024)
    assert upper is not None
    assert lower is not None
    assert lower.certain < best.value < upper  # pyright: ignore[reportAttributeAccessIssue]


def test_near_contradictions_and_singular_kernels() -> None:
    """Two inputs of correlation 1 - 1e-6 with opposite labels; three inputs in a plane."""
    rho = 1 - 1e-6
    estimate = log_probability(np.array([[1, rho], [rho, 1]]), [1, -1], FEW)
    truth = log_probability(np.array([[1, rho], [rho, 1]]), [1, -1], ClosedForm()).value
    upper = estimate.upper_bound()
    assert upper is not None
    assert truth <= upper < truth + 3
    X = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 1.0]])
    plane = log_probability(X @ X.T, [1, 1, 1], MinimaxTilting(particles=1024))
    assert abs(plane.value - math.log(1 / 8)) < 4 * (plane.stderr or 0)
    upper = plane.upper_bound()
    assert upper is not None
    assert upper >= math.log(1 / 8)


def test_three_classes() -> None:
    """P = 1/3 for one input of any class."""
    estimate = log_probability(np.eye(1), [1], MinimaxTilting(classes=3, particles=512))
    upper = estimate.upper_bound()
    assert upper is not None
    assert upper >= math.log(1 / 3)
    assert abs(estimate.value - math.log(1 / 3)) < 4 * (estimate.stderr or 0)


def test_methods_without_it_say_none() -> None:
    assert log_probability(np.eye(2), [1, 1], particles=8, replicates=4).upper_bound() is None
    assert log_probability(np.eye(2), [1, 1], "ep").upper_bound() is None
    assert log_probability(np.eye(2), [1, 1], "closed-form").upper_bound() == pytest.approx(math.log(0.25))
