"""Predictive probabilities and votes at further inputs, with their errors."""

import math

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import Kernel

from nngp_prior import posterior
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.specs.data import Threshold
from tests.cases import digits, equicorrelated


@pytest.mark.parametrize("rho", [-0.8, 0.3, 0.999])
@pytest.mark.parametrize("label", [-1, 1])
def test_one_training_and_one_test_input(rho: float, label: int) -> None:
    """P(f_2 > 0 | y f_1 > 0) = ½ + y arcsin(ρ)/π."""
    K = np.array([[2.0, rho * math.sqrt(6)], [rho * math.sqrt(6), 3.0]])
    found = posterior(K, [label])
    truth = 0.5 + label * math.asin(rho) / math.pi
    predictive = found.predictive()
    assert abs(predictive.value[0] - truth) < 4 * predictive.stderr[0]
    assert predictive.stderr[0] < 0.003
    for other in (-1, 1):
        estimate = found.log_probability([other])
        assert abs(estimate.value - math.log(truth if other > 0 else 1 - truth)) < 4 * (estimate.stderr or 0)


class Precomputed(Kernel):
    """A matrix, for inputs that are places in it."""

    def __init__(self, K: np.ndarray) -> None:
        self.K = K

    def __call__(self, X, Y=None, eval_gradient=False):
        Y = X if Y is None else Y
        return self.K[np.ix_(X[:, 0].astype(int), Y[:, 0].astype(int))]

    def diag(self, X):
        return self.K.diagonal()[X[:, 0].astype(int)]

    def is_stationary(self) -> bool:
        return False


def test_the_vote_on_a_thousand_digits_is_that_of_another_gaussian_process_classifier() -> None:
    K, labels = digits(1437, Threshold(at=5))
    found = posterior(K, labels[:1000], replicates=15)  # few enough that nothing is compiled
    vote, gibbs = found.vote_error(labels[1000:]), found.gibbs_error(labels[1000:])
    places = np.arange(1437.0)[:, None]
    other = GaussianProcessClassifier(Precomputed(100 * K), optimizer=None).fit(places[:1000], labels[:1000])
    assert abs(vote.value - np.mean(other.predict(places[1000:]) != labels[1000:])) < 0.02
    assert vote.value < 0.05
    assert vote.low <= vote.value <= vote.high
    assert vote.uncertain < 20
    assert vote.value <= 2 * gibbs.value < 0.2
    low, high = gibbs.interval()
    assert low < gibbs.value < high


_TIED = np.array([[1, 0, 0.2], [0.3, 1, 0], [-0.2, 0.4, 1], [-1, 0, -0.2], [3, 0, 0.6], [-0.2, 0.4, 1]])
_FLAT = np.random.default_rng(3).standard_normal((9, 3))


@pytest.mark.parametrize(
    ("K", "labels", "options"),
    [
        (digits(40, Threshold(at=5))[0], digits(30, Threshold(at=5))[1], {}),
        (digits(40, Threshold(at=5))[0], digits(30, Threshold(at=5))[1], {"noise_variance": 0.5}),
        (_TIED @ _TIED.T, [1, -1], {}),
        (_FLAT @ _FLAT.T, np.sign(_FLAT[:5] @ [1.0, 0.5, -0.2]), {}),
        (np.array([[1, 1], [1, 1 + 1e-8]]), [1], {}),
    ],
    ids=["regular", "noise", "tied", "low rank", "near copy"],
)
def test_inputs_in_the_kernel_and_beside_it_have_the_same_predictions(K, labels, options) -> None:
    """The factor of the whole kernel, and a triangular solve with that of the training inputs: same particles."""
    m = len(labels)
    found = posterior(K, labels, **options)
    inside, beside = found.predictive(), found.predictive_at(K[m:, :m], K.diagonal()[m:])
    np.testing.assert_allclose(beside.value, inside.value, atol=1e-8)
    np.testing.assert_allclose(beside.stderr, inside.stderr, atol=1e-8)
    one = found.predictive_at(K[-1:, :m], K.diagonal()[-1:])
    np.testing.assert_allclose(one.value, beside.value[-1:], rtol=1e-12)


def test_predictions_without_test_inputs_in_the_kernel() -> None:
    K, labels = digits(40, Threshold(at=5))
    alone = posterior(K[:30, :30], labels[:30]).predictive_at(K[30:, :30], K.diagonal()[30:])
    whole = posterior(K, labels[:30]).predictive()
    assert np.all(np.abs(alone.value - whole.value) < 4 * np.hypot(alone.stderr, whole.stderr))


@pytest.mark.parametrize(
    ("cross", "variances", "field"),
    [
        ([[0.5]], [1.0], "cross"),
        ([0.5, 0.5], [1.0], "cross"),
        ([[0.5, math.nan]], [1.0], "cross"),
        ([[0.5, 0.5]], [1.0, 1.0], "variances"),
        ([[0.5, 0.5]], [0.0], "variances"),
        ([[0.5, 0.5]], [0.3], "variances"),  # less than the training inputs explain
    ],
)
def test_misuse_of_further_inputs(cross: list, variances: list, field: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{field}: "):
        posterior(equicorrelated(2, 0.5), [1, -1]).predictive_at(cross, variances)


def test_an_even_vote_is_half_an_error() -> None:
    found = posterior(np.eye(3), [1])
    assert found.predictive().value.tolist() == [0.5, 0.5]
    assert found.predictive().votes.tolist() == [0, 0]
    error = found.vote_error([1, -1])
    assert (error.value, error.low, error.high, error.uncertain) == (0.5, 0.0, 1.0, 2)
    assert found.gibbs_error([1, -1]).value == 0.5


@pytest.mark.parametrize("n", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_standard_errors_cover_a_label_that_few_particles_saw(n: int) -> None:
    """A random walk that stayed positive for n steps is so at the next with probability (2n + 1)/(2n + 2)."""
    times = np.arange(1, n + 2)
    K, truth = np.minimum.outer(times, times), (2 * n + 1) / (2 * n + 2)
    z = []
    for seed in range(20):
        given = posterior(K, np.ones(n), seed=seed)
        predictive, error = given.predictive(), given.gibbs_error([1])
        z.append((predictive.value[0] - truth) / predictive.stderr[0])
        assert error.value == pytest.approx(1 - predictive.value[0], abs=1e-9)
        assert error.stderr == pytest.approx(predictive.stderr[0], rel=1e-6)
    assert np.abs(z).max() < 4
    assert np.mean(np.square(z)) < 2


@pytest.mark.parametrize("gap", [1e-8, 1e-6])
def test_what_no_particle_saw_is_not_certain(gap: float) -> None:
    """Two inputs that are nearly one: P(equal labels) = ½ + arcsin(ρ)/π, but for a part that no particle hits."""
    K = np.array([[1, 1], [1, 1 + gap]])
    rare = math.acos((1 + gap) ** -0.5) / math.pi
    given = posterior(K, [1])
    predictive = given.predictive()
    assert abs(predictive.value[0] - (1 - rare)) < 2 * predictive.stderr[0]
    assert 0 < predictive.stderr[0] < 0.01
    for label, truth in ((1, rare), (-1, 1 - rare)):
        error = given.gibbs_error([label])
        assert abs(error.value - truth) < 2 * error.stderr
        assert error.stderr > 0


def test_the_label_of_a_copy_is_certain() -> None:
    given = posterior(np.ones((3, 3)), [1, 1])
    assert given.predictive().stderr[0] < 1e-12
    assert given.gibbs_error([1]).stderr < 1e-12
