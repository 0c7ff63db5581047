"""EP started at sites that are nearly right: the same fixed point, and nearer to it after a sweep."""

import numpy as np
import pytest

from nngp_prior import log_probability
from nngp_prior.errors import InvalidInput
from nngp_prior.probability import Start, compute, ep_start, estimator_of, prepare
from nngp_prior.schemas.specs.data import Threshold
from tests.cases import digits


def test_from_a_related_labelling() -> None:
    K, labels = digits(300, Threshold(at=5))
    related = labels.copy()
    related[[3, 100]] *= -1
    cold = log_probability(K, labels, method="ep")
    start = ep_start(K, related)
    assert log_probability(K, labels, method="ep", start=start).value == pytest.approx(cold.value, abs=1e-4)
    once = [log_probability(K, labels, method="ep", max_sweeps=1, start=s).value for s in (start, None)]
    assert abs(once[0] - cold.value) < 0.2 * abs(once[1] - cold.value)


def test_from_the_labelling_itself_one_sweep_is_enough() -> None:
    K, labels = digits(300, Threshold(at=5))
    warm = log_probability(K, labels, method="ep", start=ep_start(K, labels, tolerance=1e-5))
    assert warm.diagnostics["ep_sweeps"] == 1


def test_from_a_prefix_with_duplicates() -> None:
    K, labels = digits(120, Threshold(at=5))
    twice = np.r_[np.arange(80), 5, 7, np.arange(80, 120)]
    K, labels = K[np.ix_(twice, twice)], labels[twice]
    start = ep_start(K[:90, :90], labels[:90])
    assert np.count_nonzero(start.precision) == 88  # one of each pair
    cold = log_probability(K, labels, method="ep")
    warm = log_probability(K, labels, method="ep", start=start)
    assert warm.value == pytest.approx(cold.value, abs=1e-4)
    assert warm.diagnostics["ep_sweeps"] <= cold.diagnostics["ep_sweeps"]


def test_smc_may_start_anywhere() -> None:
    K, labels = digits(200, Threshold(at=5))
    cold = log_probability(K, labels)
    warm = log_probability(K, labels, start=ep_start(K, -labels))
    assert abs(cold.value - warm.value) < 4 * np.hypot(cold.stderr or 0, warm.stderr or 0)


def test_misuse() -> None:
    K, labels = digits(20, Threshold(at=5))
    start = ep_start(K, labels)
    with pytest.raises(InvalidInput, match="start: sampling runs no EP"):
        log_probability(K, labels, method="sampling", start=start)
    with pytest.raises(InvalidInput, match="start: is of 20 inputs where K has 10"):
        log_probability(K[:10, :10], labels[:10], start=start)
    with pytest.raises(InvalidInput, match=r"y: the labels of inputs 0 and 1, .* contradict"):
        ep_start(np.ones((2, 2)), [1, -1])


def test_a_run_hands_on_the_sites_that_it_ended_at() -> None:
    K, labels = digits(100, Threshold(at=5))
    twice = np.r_[np.arange(100), 5]
    K, labels = K[np.ix_(twice, twice)], labels[twice]
    kept: list[Start] = []
    for method in ("ep", "ep2", "smc"):
        estimator = estimator_of(method)
        compute(prepare(K, estimator), labels, estimator, keep=kept.append)
    found = ep_start(K, labels)
    for start in kept[:2]:
        np.testing.assert_array_equal(start.precision, found.precision)
        np.testing.assert_array_equal(start.shift, found.shift)
    assert np.count_nonzero(kept[2].precision) == 100
    estimator = estimator_of("sampling")
    with pytest.raises(InvalidInput, match="keep: sampling runs no EP"):
        compute(prepare(K, estimator), labels, estimator, keep=kept.append)
