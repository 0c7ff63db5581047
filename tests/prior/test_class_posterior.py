"""Posteriors of three or more classes: enumeration, rejection, closed forms, and that of two classes."""

import itertools
import math

import numpy as np
import pytest
from scipy.special import ndtr

from nngp_prior import FullyConnected, function_posterior, kernel, log_probability, posterior
from nngp_prior.data import load
from nngp_prior.errors import InvalidInput, InvalidLabels
from nngp_prior.prior.class_posterior import ClassPosterior, class_probabilities
from nngp_prior.schemas.specs.data import Digits
from tests.cases import equicorrelated


def digits_of_three_classes(n: int) -> tuple[np.ndarray, np.ndarray]:
    data = load(Digits(n=n))
    return kernel(FullyConnected(depth=2), data.X), data.classes % 3


@pytest.fixture(scope="module")
def ten() -> tuple[np.ndarray, np.ndarray, ClassPosterior]:
    """Ten digits, the first five given."""
    K, y = digits_of_three_classes(10)
    return K, y, posterior(K, y[:5], classes=3, seed=1)


def accepted(K: np.ndarray, y: np.ndarray, classes: int, count: int) -> np.ndarray:
    """Functions (samples, n, C) of the posterior by rejection, with a factor that nothing else uses."""
    values, vectors = np.linalg.eigh(K)
    z = np.random.default_rng(0).standard_normal((count, classes, len(K)))
    f = (z @ (vectors * np.sqrt(np.maximum(values, 0.0))).T).swapaxes(1, 2)
    return f[np.all(f[:, : len(y)].argmax(axis=2) == y, axis=1)]


def test_all_labellings_of_two_test_inputs() -> None:
    """n = 6, C = 3: P(labels | S) of all 9 labellings is P(both)/P(S) by independent long runs, and sums to 1."""
    K, y = digits_of_three_classes(6)
    found = posterior(K, y[:4], classes=3, seed=3)
    given = log_probability(K[:4, :4], y[:4], classes=3, particles=512, seed=11)
    total, error = 0.0, 0.0
    for pair in map(list, itertools.product(range(3), repeat=2)):
        estimate = found.log_probability(pair)
        joint = log_probability(K, [*y[:4], *pair], classes=3, particles=512, seed=12)
        spread = math.hypot(estimate.stderr or 0, joint.stderr or 0, given.stderr or 0)
        assert abs(estimate.value - (joint.value - given.value)) < 4 * spread
        total += math.exp(estimate.value)
        error = math.hypot(error, math.exp(estimate.value) * (estimate.stderr or 0))
    assert abs(total - 1) < 4 * error < 0.05


def test_probabilities_errors_and_samples_are_those_of_rejection(ten) -> None:
    K, y, found = ten
    functions = accepted(K, y[:5], 3, 1_000_000)
    labels = functions[:, 5:].argmax(axis=2)
    predictive = found.predictive()
    assert predictive.value.sum(axis=1) == pytest.approx(1, abs=1e-12)
    for c in range(3):
        frequency = (labels == c).mean(axis=0)
        spread = np.hypot(predictive.stderr[:, c], np.sqrt(frequency * (1 - frequency) / len(labels)))
        assert np.all(np.abs(predictive.value[:, c] - frequency) < 4 * spread)
    gibbs, truth = found.gibbs_error(y[5:]), float((labels != y[5:]).mean())
    assert abs(gibbs.value - truth) < 4 * math.hypot(gibbs.stderr, 0.5 / math.sqrt(len(labels)))
    drawn = found.samples(4000, seed=5)
    assert drawn.shape == (4000, 10, 3)
    assert np.all(drawn[:, :5].argmax(axis=2) == y[:5])
    for power in (1, 2):
        mine, theirs = (drawn**power).mean(axis=0), (functions**power).mean(axis=0)
        spread = (functions**power).std(axis=0) * math.sqrt(1 / 1000 + 1 / len(functions))  # 1,000 effective particles
        assert np.all(np.abs(mine - theirs) < 4.5 * spread)


def test_symmetric_classes() -> None:
    """K = I: labels say nothing. Equicorrelation ½ and one label: all other classes are alike."""
    found = posterior(np.eye(5), [0, 2], classes=4)
    assert found.predictive().value == pytest.approx(0.25, abs=1e-6)
    predictive = posterior(equicorrelated(2, 0.5), [1], classes=4).predictive()
    value, stderr = predictive.value[0], predictive.stderr[0]
    assert np.all(np.abs(value[[0, 2, 3]] - value[[2, 3, 0]]) < 4 * np.hypot(stderr[[0, 2, 3]], stderr[[2, 3, 0]]))
    assert value[1] > 0.3


def test_two_classes_are_the_binary_posterior() -> None:
    K, y = digits_of_three_classes(40)
    labels = (y == 0).astype(int)
    classes, signs = posterior(K, labels[:30], classes=2, seed=4), posterior(K, 2 * labels[:30] - 1, seed=4)
    assert classes.log_p.value == pytest.approx(signs.log_p.value, abs=1e-5)  # float32 proposals
    assert classes.predictive().value[:, 1] == pytest.approx(signs.predictive().value, abs=1e-5)
    assert classes.predictive().stderr[:, 1] == pytest.approx(signs.predictive().stderr, abs=1e-5)
    errors = classes.gibbs_error(labels[30:]), signs.gibbs_error(2 * labels[30:] - 1)
    assert errors[0].value == pytest.approx(errors[1].value, abs=1e-5)
    assert classes.vote_error(labels[30:]) == signs.vote_error(2 * labels[30:] - 1)


def test_names_of_classes_do_not_matter(ten) -> None:
    K, y, found = ten
    names = np.array([2, 0, 1])
    renamed = posterior(K, names[y[:5]], classes=3, seed=1).predictive()
    spread = np.hypot(found.predictive().stderr, renamed.stderr[:, names])
    assert np.all(np.abs(found.predictive().value - renamed.value[:, names]) < 4.5 * spread)


def test_inputs_beside_the_kernel_have_the_same_predictions(ten) -> None:
    K, y, found = ten
    alone = posterior(K[:5, :5], y[:5], classes=3, seed=1)
    beside = alone.predictive_at(K[5:, :5], K.diagonal()[5:])
    spread = np.hypot(found.predictive().stderr, beside.stderr)  # other random numbers: dimensions differ
    assert np.all(np.abs(found.predictive().value - beside.value) < 4.5 * spread)


def test_the_class_of_a_copy_is_certain() -> None:
    K = equicorrelated(3, 0.4)[np.ix_([0, 1, 2, 0], [0, 1, 2, 0])]
    found = posterior(K, [2, 0, 1], classes=3)
    assert np.array_equal(found.predictive().value, [[0, 0, 1]])
    assert found.predictive().stderr == pytest.approx(0, abs=1e-12)
    assert found.log_probability([2]).value == 0
    assert found.log_probability([1]).status == "impossible"


def test_opposite_inputs_in_training() -> None:
    """Correlation -1 forbids equal classes, also for training inputs alone."""
    K = np.array([[1.0, -1.0, 0.2], [-1.0, 1.0, -0.2], [0.2, -0.2, 1.0]])
    with pytest.raises(InvalidLabels, match="inputs 0 and 1"):
        posterior(K, [1, 1], classes=3)
    assert np.isfinite(posterior(K, [1, 0], classes=3).predictive().value).all()


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("deviation", [0.05, 1.0, 30.0])
def test_probabilities_of_the_largest_by_simulation(classes: int, deviation: float) -> None:
    rng = np.random.default_rng(classes)
    scores = rng.standard_normal((1, classes, 3)) * 2
    p = class_probabilities(scores.copy(), np.array([deviation]))[0]
    draws = scores[0] + deviation * rng.standard_normal((200_000, classes, 3))
    for k in range(3):
        frequency = np.bincount(draws[:, :, k].argmax(axis=1), minlength=classes) / len(draws)
        assert np.all(np.abs(frequency - p[:, k]) < 4.5 * np.sqrt(np.maximum(p[:, k], 1e-4) / len(draws)))


def test_probabilities_of_two_and_of_equal_scores() -> None:
    scores = np.array([[[0.0, 0.0], [1.3, 60.0]]])
    p = class_probabilities(scores.copy(), np.array([0.7]))
    assert p[0, 1] == pytest.approx(ndtr(np.array([1.3, 60.0]) / (0.7 * math.sqrt(2))), abs=1e-6)
    assert class_probabilities(np.zeros((1, 100, 1)), np.array([1.0])) == pytest.approx(0.01, abs=1e-12)


def test_scores_of_predictions(ten) -> None:
    _, y, found = ten
    predictive = found.predictive()
    of_truth = predictive.value[np.arange(5), y[5:]]
    assert predictive.log_loss(y[5:]) == pytest.approx(-np.log(of_truth).mean())
    right = predictive.votes == y[5:]
    assert predictive.calibration_error(y[5:], bins=1) == pytest.approx(
        abs(right.mean() - predictive.value.max(axis=1).mean())
    )
    assert found.vote_error(y[5:]).value == pytest.approx(1 - right.mean())
    with pytest.raises(InvalidInput, match="bins: got 0"):
        predictive.calibration_error(y[5:], bins=0)


def test_invalid_labels_name_the_classes() -> None:
    K = equicorrelated(4, 0.3)
    with pytest.raises(InvalidLabels, match=r"y\[1\] is 3"):
        posterior(K, [0, 3], classes=3)
    with pytest.raises(InvalidLabels, match=r"y\[0\] is 5"):
        posterior(K, [0, 1, 2], classes=3).gibbs_error([5])
    with pytest.raises(InvalidInput, match="target_stderr"):
        posterior(K, [0, 1], classes=3, target_stderr=0.1)
    with pytest.raises(InvalidLabels, match=r"y\[2\] is 7"):
        function_posterior(FullyConnected(), np.eye(3), [0, 1, 7], np.eye(3), classes=3)
