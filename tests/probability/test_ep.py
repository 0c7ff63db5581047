import math

import numpy as np
import pytest

from nngp_prior import log_probabilities, log_probability
from nngp_prior.schemas.specs.data import Constant, RandomLabels, Threshold
from tests.cases import digits, equicorrelated, mnist
from tests.probability.oracles import sequential_ep


@pytest.mark.parametrize("labelling", [Threshold(at=5), Constant(), RandomLabels()])
def test_agrees_with_plain_sequential_ep(labelling) -> None:
    K, labels = digits(30, labelling)
    ours = log_probability(K, labels, method="ep", precision="float64", tolerance=1e-9)
    assert ours.status == "ok"
    assert ours.value == pytest.approx(sequential_ep(K, labels, sweeps=40), abs=1e-6)


def test_agrees_with_plain_sequential_ep_across_blocks() -> None:
    """n = 150 has two blocks of sites."""
    K, labels = digits(150, Threshold(at=5))
    ours = log_probability(K, labels, method="ep", precision="float64", tolerance=1e-9)
    assert ours.value == pytest.approx(sequential_ep(K, labels, sweeps=15), abs=1e-6)


@pytest.mark.parametrize("labelling", [Constant(), Threshold(at=5), RandomLabels()])
def test_converges_on_mnist_in_few_sweeps_and_float32_suffices(image_data, labelling) -> None:
    K, labels = mnist(1000, labelling)
    single, double = (log_probability(K, labels, method="ep", precision=p) for p in ("float32", "float64"))
    for estimate in (single, double):
        assert estimate.status == "ok"
        assert estimate.diagnostics["ep_sweeps"] <= 12
    assert single.diagnostics["ep_precision"] == "float32"
    assert single.value == pytest.approx(double.value, abs=1e-2)


def test_has_no_error_statement() -> None:
    estimate = log_probability(equicorrelated(5, 0.5), np.ones(5, dtype=int), method="ep")
    assert estimate.stderr is None
    assert estimate.interval() is None
    assert estimate.lower_bound() is None


def test_is_exact_for_independent_inputs() -> None:
    estimate = log_probability(np.diag([1.0, 5.0, 0.2]), [1, -1, 1], method="ep")
    assert estimate.value == pytest.approx(-3 * math.log(2), abs=1e-12)


def test_is_no_bound() -> None:
    """Under positive correlation EP lies below the truth, under negative correlation above."""
    for rho, sign in ((0.8, -1), (-0.9, 1)):
        K = equicorrelated(2, rho)
        difference = (
            log_probability(K, [1, 1], method="ep").value - log_probability(K, [1, 1], method="closed-form").value
        )
        assert sign * difference > 1e-4


def test_float64_takes_over_where_float32_is_not_enough() -> None:
    """A squared exponential kernel with conditional variances down to rounding."""
    x = np.linspace(0, 1, 200)
    K = np.exp(-0.5 * (x[:, None] - x) ** 2 / 0.2**2) + 1e-9 * np.eye(200)
    labels = np.where(x > 0.5, 1, -1)
    single = log_probability(K, labels, method="ep")
    double = log_probability(K, labels, method="ep", precision="float64")
    assert single.value == pytest.approx(double.value, abs=0.05)


def test_says_when_it_has_not_converged() -> None:
    K, labels = digits(100, Threshold(at=5))
    estimate = log_probability(K, labels, method="ep", max_sweeps=1)
    assert estimate.status == "not-converged"
    assert "raise max_sweeps" in estimate.message


@pytest.mark.parametrize("K", [np.array([[3.0]]), np.ones((5, 5))], ids=["one input", "five equal ones"])
def test_is_exact_for_one_distinct_input_however_often(K: np.ndarray) -> None:
    estimates = log_probabilities(K, np.ones((4, len(K)), dtype=int), method="ep")
    for estimate in estimates:
        assert estimate.value == pytest.approx(-math.log(2), abs=1e-12)
        assert estimate.diagnostics["smallest_conditional_variance"] == 1
