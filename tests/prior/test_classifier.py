import re
from collections.abc import Iterator

import numpy as np
import pytest
from jaxtyping import config
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import check_estimator

from nngp_prior import SMC, Convolutional, FullyConnected, NNGPClassifier, kernel, log_probability, posterior
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.specs.architecture import ConvolutionLayer

FEW = SMC(particles=8, replicates=8)
_RNG = np.random.default_rng(0)
X, X_TEST = _RNG.standard_normal((30, 3)), _RNG.standard_normal((20, 3))
Y = np.where(X[:, 0] > 0, 1, -1)


@pytest.fixture
def _unchecked_types() -> Iterator[None]:
    """scikit-learn passes values of all types and wants errors of its own kinds, late."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("_unchecked_types")
@pytest.mark.parametrize(("legacy", "checks"), [(False, 5), pytest.param(True, 40, marks=pytest.mark.slow)])
def test_is_an_estimator_of_scikit_learn(legacy: bool, checks: int) -> None:
    """scikit-learn calls "legacy" those of its checks that fit often; they pass too."""
    results = check_estimator(NNGPClassifier(FullyConnected(depth=1), method=FEW), legacy=legacy, on_skip=None)
    assert len(results) > checks


@pytest.mark.parametrize("noise_variance", [0.0, 0.3])
def test_probabilities_are_those_of_the_posterior(noise_variance: float) -> None:
    method = SMC(noise_variance=noise_variance)
    found = NNGPClassifier(FullyConnected(depth=1), method=method, seed=3).fit(X, Y)
    K = kernel(FullyConnected(depth=1), np.concatenate([X, X_TEST]))
    expected = posterior(K, Y, noise_variance=noise_variance).predictive()
    predictive = found.predictive(X_TEST)
    assert np.all(np.abs(predictive.value - expected.value) < 4 * np.hypot(predictive.stderr, expected.stderr))
    alone = posterior(K[:30, :30], Y, noise_variance=noise_variance, seed=3)
    probabilities = found.predict_proba(X_TEST)
    same = alone.predictive_at(K[30:, :30], K.diagonal()[30:]).value
    np.testing.assert_allclose(probabilities, np.column_stack([1 - same, same]), atol=1e-12)
    assert found.posterior_.log_p.value == pytest.approx(alone.log_p.value, rel=1e-10)
    assert np.array_equal(found.predict(X_TEST), np.where(probabilities[:, 1] > 0.5, 1, -1))
    assert found.score(X_TEST, found.predict(X_TEST)) == 1.0


def test_two_training_inputs_in_closed_form() -> None:
    found = NNGPClassifier(FullyConnected(depth=1)).fit(X[:2], ["a", "b"])
    K = kernel(FullyConnected(depth=1), np.concatenate([X[:2], X_TEST[:1]]))
    a, b = (np.exp(log_probability(K, [-1, 1, y], method="closed-form").value) for y in (-1, 1))
    predictive = found.predictive(X_TEST[:1])
    assert abs(predictive.value[0] - b / (a + b)) < 4 * predictive.stderr[0] < 0.02


@pytest.mark.parametrize("classes", [[-1, 1], [0, 1], [3.0, 7.0], ["cat", "dog"], [False, True]])
def test_labels_are_any_two_values(classes: list) -> None:
    values = np.array(classes)
    found = NNGPClassifier(method=FEW).fit(X, values[(Y + 1) // 2])
    assert found.classes_.tolist() == classes
    plain = NNGPClassifier(method=FEW).fit(X, Y)
    assert np.array_equal(found.predict_proba(X_TEST), plain.predict_proba(X_TEST))
    assert np.array_equal(found.predict(X_TEST), values[(plain.predict(X_TEST) + 1) // 2])


def test_many_test_inputs_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    found = NNGPClassifier(method=FEW).fit(X, Y)
    whole = found.predictive(X_TEST)
    monkeypatch.setattr("nngp_prior.prior.classifier._ENTRIES", 7 * len(X))
    blocks = found.predictive(X_TEST)
    np.testing.assert_allclose(blocks.value, whole.value, atol=1e-12)
    np.testing.assert_allclose(blocks.stderr, whole.stderr, atol=1e-12)
    assert blocks.freedom == whole.freedom == 7


def test_images() -> None:
    images = _RNG.random((24, 4, 5, 2))
    y = np.where(images[..., 0].mean(axis=(1, 2)) > 0.5, "bright", "dark")
    network = Convolutional(layers=(ConvolutionLayer(),), readout="global-average-pool")
    found = NNGPClassifier(network, method=FEW).fit(images[:16], y[:16])
    K = kernel(network, images)
    alone = posterior(K[:16, :16], np.where(y[:16] == "dark", 1, -1), particles=8, replicates=8)
    expected = alone.predictive_at(K[16:, :16], K.diagonal()[16:]).value
    np.testing.assert_allclose(found.predict_proba(images[16:])[:, 1], expected, atol=1e-10)
    with pytest.raises(
        InvalidInput, match=re.escape("X: has inputs of shape (4, 4, 2); the training inputs have (4, ")
    ):
        found.predict(images[16:, :, :4])
    with pytest.raises(InvalidInput, match="takes images"):
        NNGPClassifier(network).fit(X, Y)
    flat = NNGPClassifier(method=FEW).fit(images[:16], y[:16])
    again = NNGPClassifier(method=FEW).fit(images[:16].reshape(16, -1), y[:16])
    assert np.array_equal(flat.predict_proba(images[16:]), again.predict_proba(images[16:].reshape(8, -1)))


def test_three_classes() -> None:
    names = np.array(["a", "b", "c"])
    y = np.digitize(X[:, 0], [-0.5, 0.5])
    found = NNGPClassifier(FullyConnected(depth=1), method=FEW, seed=2).fit(X, names[y])
    K = kernel(FullyConnected(depth=1), np.concatenate([X, X_TEST]))
    alone = posterior(K[:30, :30], y, classes=3, particles=8, replicates=8, seed=2)
    expected = alone.predictive_at(K[30:, :30], K.diagonal()[30:])
    probabilities = found.predict_proba(X_TEST)
    np.testing.assert_allclose(probabilities, expected.value, atol=1e-10)
    np.testing.assert_allclose(found.predictive(X_TEST).stderr, expected.stderr, atol=1e-10)
    assert np.array_equal(found.predict(X_TEST), names[expected.votes])
    assert found.score(X, names[y]) == 1.0


@pytest.mark.usefixtures("_unchecked_types")
@pytest.mark.parametrize(
    ("classifier", "y", "problem"),
    [
        (NNGPClassifier(), np.ones(30), "y: has 1 class"),
        (NNGPClassifier(method="ep"), Y, "method: got 'ep'"),
        (NNGPClassifier(method=SMC(classes=2)), Y, "classes: "),
        (NNGPClassifier(method=SMC(target_stderr=0.1)), Y, "target_stderr: "),
        (NNGPClassifier(seed=True), Y, "seed: "),
        (NNGPClassifier().set_params(architecture="relu"), Y, "architecture: got 'relu'"),
    ],
    ids=["one class", "method", "classes", "target", "seed", "architecture"],
)
def test_misuse(classifier: NNGPClassifier, y: np.ndarray, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        classifier.fit(X, y)


def test_contradictory_labels_need_noise() -> None:
    inputs, y = np.concatenate([X[:1], X]), np.concatenate([-Y[:1], Y])
    with pytest.raises(InvalidInput, match="inputs 0 and 1"):
        NNGPClassifier(method=FEW).fit(inputs, y)
    noisy = NNGPClassifier(method=SMC(noise_variance=1.0)).fit(inputs, y)
    assert 0.1 < noisy.predict_proba(X[:1])[0, 1] < 0.9


def test_predictions_need_a_fit() -> None:
    with pytest.raises(NotFittedError):
        NNGPClassifier().predict(X)
