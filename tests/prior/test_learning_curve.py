import math

import numpy as np
import pytest

from nngp_prior import FullyConnected, kernel, learning_curve, log_probability, pac_bayes_bounds
from nngp_prior.data import load
from nngp_prior.errors import InvalidInput
from nngp_prior.progress import Progress
from nngp_prior.schemas.specs.data import Digits, Threshold
from tests.cases import digits, equicorrelated


def test_are_those_of_the_first_m_labels_in_their_order() -> None:
    K, labels = digits(120, Threshold(at=5))
    points = learning_curve(K, labels, [120, 30, 60, 30], delta=0.1, gamma=0.2)
    assert [point.m for point in points] == [30, 60, 120]
    for m, estimate, bounds in points:
        alone = log_probability(K[:m, :m], labels[:m])
        assert estimate.n == m
        assert abs(estimate.value - alone.value) < 4 * math.hypot(estimate.stderr or 0, alone.stderr or 0)
        assert bounds == pac_bayes_bounds(estimate, 0.1, gamma=0.2)
    other = learning_curve(K, -labels * np.where(np.arange(120) < 60, 1, -1), [60, 120])
    assert other[0].estimate.value == pytest.approx(points[1].estimate.value, abs=0.2)  # P(-y) = P(y)
    assert other[1].estimate.value < points[2].estimate.value - 10


def test_ep_starts_where_it_ended_before() -> None:
    K, labels = digits(200, Threshold(at=5))
    cold = log_probability(K, labels, method="ep")
    _, warm = learning_curve(K, labels, [199, 200], method="ep")
    assert warm.estimate.value == pytest.approx(cold.value, abs=1e-4)
    assert warm.estimate.diagnostics["ep_sweeps"] < cold.diagnostics["ep_sweeps"]
    assert not warm.bounds["realizable"].is_bound


def test_methods_without_ep_and_contradictions() -> None:
    K = equicorrelated(5, 0.5)
    K[4], K[:, 4] = K[3], K[:, 3]
    K[4, 4] = 1.0
    labels = np.array([1, 1, -1, 1, -1])
    for method in ("smc", "ghk", "sampling"):
        possible, impossible = learning_curve(K, labels, [4, 5], method=method)
        assert possible.bounds["realizable"].value < 1
        assert impossible.estimate.status == "impossible"
        assert impossible.bounds["realizable"].value == 1.0


def test_tells_its_progress_and_takes_options() -> None:
    K, labels = digits(30, Threshold(at=5))
    told: list[Progress] = []
    points = learning_curve(K, labels, [10, 20], progress=told.append, noise_variance=0.5, particles=16)
    assert told[0].cost is not None
    assert told[0].cost.seconds > 0
    assert told[1:] == [Progress("sizes", 1, 2), Progress("sizes", 2, 2)]
    assert {point.estimate.diagonal_shift for point in points} == {0.5}
    assert {point.estimate.diagnostics["particles"] for point in points} == {16}


@pytest.mark.parametrize("classes", [2, 10])
def test_of_classes(classes: int) -> None:
    """At each m it is log P of the first m classes, and the bounds that follow from it."""
    data = load(Digits(n=24))
    K, labels = kernel(FullyConnected(depth=2), data.X), data.classes % classes
    points = learning_curve(K, labels, [12, 24], classes=classes)
    for m, estimate, bounds in points:
        alone = log_probability(K[:m, :m], labels[:m], classes=classes)
        assert abs(estimate.value - alone.value) < 4 * math.hypot(estimate.stderr or 0, alone.stderr or 0)
        assert bounds == pac_bayes_bounds(estimate)
    assert points[1].estimate.value < points[0].estimate.value


@pytest.mark.parametrize("sizes", [[], [0], [31], [True]])
def test_misuse(sizes: list) -> None:
    K, labels = digits(30, Threshold(at=5))
    with pytest.raises(InvalidInput, match="sizes: "):
        learning_curve(K, labels, sizes)
    with pytest.raises(InvalidInput, match="y: "):
        learning_curve(K, labels[:20], [10])
