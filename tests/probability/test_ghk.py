"""Separation of variables without twisting: right where inputs are few, told where it is not."""

import math

import numpy as np
import pytest

from nngp_prior import log_probability
from nngp_prior.schemas.specs.data import RandomLabels
from tests.cases import digits, equicorrelated, equicorrelated_labels, equicorrelated_truth


@pytest.mark.parametrize("kind", ["positive", "mixed", "random"])
@pytest.mark.parametrize("n", [2, 5, 20])
def test_against_closed_forms(n: int, kind: str) -> None:
    labels = equicorrelated_labels(n, kind)
    truth = equicorrelated_truth(0.6, labels)
    estimate = log_probability(equicorrelated(n, 0.6), labels, method="ghk")
    assert abs(estimate.value - truth) < 4 * (estimate.stderr or 0) + 1e-9
    assert estimate.stderr is not None
    assert estimate.stderr < 0.1
    assert (estimate.lower_bound(0.01) or 0) < truth


def test_agrees_with_the_default_on_independent_inputs_exactly() -> None:
    """No weight varies: P = 2⁻ⁿ."""
    estimate = log_probability(np.diag([1.0, 2.0, 3.0, 4.0]), [1, -1, 1, 1], method="ghk", particles=8, replicates=4)
    assert estimate.value == pytest.approx(-4 * math.log(2), abs=1e-12)
    assert estimate.stderr == pytest.approx(0, abs=1e-12)


def test_says_when_it_is_out_of_its_depth() -> None:
    K, labels = digits(300, RandomLabels())
    estimate = log_probability(K, labels, method="ghk")
    twisted = log_probability(K, labels)
    assert estimate.status == "heavy-tailed"
    assert estimate.value < twisted.value - 5
    assert (estimate.lower_bound(0.01) or 0) < twisted.value


def test_rank_deficient_kernel() -> None:
    """Three inputs in a plane, the third determined by the others: P is an angle."""
    X = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 1.0]])
    estimate = log_probability(X @ X.T, [1, 1, 1], method="ghk", particles=1024)
    assert abs(estimate.value - math.log(1 / 8)) < 4 * (estimate.stderr or 0)
