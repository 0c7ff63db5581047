import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp

from nngp_prior import FullyConnected, function_posterior, kernel, log_probability, posterior
from nngp_prior.data import load
from nngp_prior.errors import InvalidInput, InvalidLabels
from nngp_prior.progress import Progress
from nngp_prior.schemas.specs.data import Digits, Threshold
from tests.cases import digits, equicorrelated
from tests.probability.oracles import all_labellings


def draws(K: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Functions of the prior, one a row, by a factor that nothing else uses."""
    values, vectors = np.linalg.eigh(K)
    z = np.random.default_rng(seed).standard_normal((count, len(K)))
    return z @ (vectors * np.sqrt(np.maximum(values, 0.0))).T


def accepted(K: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Functions of the posterior by rejection."""
    f = draws(K, count)
    return f[np.all(f[:, : len(labels)] * labels > 0, axis=1)]


def test_two_training_inputs_and_one_test_input() -> None:
    K = np.array([[1.0, 0.4, -0.3], [0.4, 1.0, 0.5], [-0.3, 0.5, 1.0]])
    exact = [log_probability(K, [1, -1, y], method="closed-form").value for y in (-1, 1)]
    found = posterior(K, [1, -1], seed=1)
    predictive = found.predictive()
    assert abs(predictive.value[0] - math.exp(exact[1] - logsumexp(exact))) < 4 * predictive.stderr[0]
    pair = log_probability(K[:2, :2], [1, -1], method="closed-form").value
    assert abs(found.log_p.value - pair) < 4 * (found.log_p.stderr or 0)
    for y, joint in zip((-1, 1), exact, strict=True):
        estimate = found.log_probability([y])
        assert abs(estimate.value - (joint - pair)) < 4 * (estimate.stderr or 0)
        assert estimate.n == 1


@pytest.mark.parametrize(("positive", "negative"), [(30, 0), (20, 7), (3, 3)])
def test_the_rule_of_succession(positive: int, negative: int) -> None:
    """Equicorrelation ½: P(p positive, q negative) = p! q!/(n + 1)!, so that P(+1 | S) = (p + 1)/(n + 2)."""
    n = positive + negative
    labels = np.repeat([1, -1], [positive, negative])
    found = posterior(equicorrelated(n + 4, 0.5), labels)
    predictive = found.predictive()
    truth = (positive + 1) / (n + 2)
    assert np.all(np.abs(predictive.value - truth) < 4 * predictive.stderr)
    assert found.gibbs_error([-1] * 4).value == pytest.approx(predictive.value.mean())
    gibbs = found.gibbs_error([-1, -1, 1, -1])
    assert abs(gibbs.value - (3 * truth + 1 - truth) / 4) < 4 * gibbs.stderr
    estimate = found.log_probability([1, 1, -1, 1])
    p, q = positive + 3, negative + 1
    joint = math.lgamma(p + 1) + math.lgamma(q + 1) - math.lgamma(n + 6)
    train = math.lgamma(positive + 1) + math.lgamma(negative + 1) - math.lgamma(n + 2)
    assert abs(estimate.value - (joint - train)) < 4 * (estimate.stderr or 0)
    low, high = estimate.interval(0.9999)
    assert low < joint - train < high
    assert estimate.lower_bound() is None


@pytest.fixture(scope="module")
def ten() -> tuple[np.ndarray, np.ndarray]:
    K, labels = digits(10, Threshold(at=5))
    return K, labels


def test_all_labellings_of_the_test_inputs_sum_to_one_and_are_those_of_rejection(ten) -> None:
    K, labels = ten
    found = posterior(K, labels[:5], seed=2)
    functions = accepted(K, labels[:5], 1_000_000)
    estimates = [found.log_probability(y) for y in all_labellings(5)]
    total = sum(math.exp(each.value) for each in estimates)
    error = math.sqrt(sum((math.exp(each.value) * (each.stderr or 0)) ** 2 for each in estimates))
    assert abs(total - 1) < 4 * error < 0.02
    for y, estimate in zip(all_labellings(5), estimates, strict=True):
        frequency = np.mean(np.all(functions[:, 5:] * y > 0, axis=1))
        spread = math.sqrt(max(frequency, 1 / len(functions)) / len(functions))
        assert abs(math.exp(estimate.value) - frequency) < 4 * math.hypot(
            spread, math.exp(estimate.value) * (estimate.stderr or 0)
        )


def test_predictions_errors_and_samples_are_those_of_rejection(ten) -> None:
    K, labels = ten
    K = 3.0 * K
    found = posterior(K, labels[:5], particles=256)
    functions = accepted(K, labels[:5], 1_000_000)
    wrong = functions[:, 5:] * labels[5:] < 0
    predictive, gibbs = found.predictive(), found.gibbs_error(labels[5:])
    rate = np.mean(functions[:, 5:] > 0, axis=0)
    spread = np.sqrt(rate * (1 - rate) / len(functions))
    assert np.all(np.abs(predictive.value - rate) < 4 * np.hypot(spread, predictive.stderr))
    each = wrong.mean(axis=1)
    assert abs(gibbs.value - each.mean()) < 4 * math.hypot(gibbs.stderr, each.std() / math.sqrt(len(each)))
    assert found.vote_error(labels[5:]).value == np.mean(np.sign(rate - 0.5) != labels[5:])

    samples = found.samples(4000, seed=1)
    assert samples.shape == (4000, 10)
    assert np.all(samples[:, :5] * labels[:5] > 0)
    moments = [(f.mean(axis=0), np.cov(f.T)) for f in (samples, functions)]
    deviation = functions.std(axis=0)
    effective = found.log_p.diagnostics["effective_sample_size"] / 2
    assert np.all(np.abs(moments[0][0] - moments[1][0]) < 4 * deviation / math.sqrt(effective))
    allowed = 4 * math.sqrt(2 / effective) * np.outer(deviation, deviation)
    assert np.all(np.abs(moments[0][1] - moments[1][1]) < allowed)


def test_common_random_numbers_leave_a_fraction_of_the_error_and_say_so_truly() -> None:
    K, labels = digits(110, Threshold(at=5))
    found = [posterior(K, labels[:100], seed=seed) for seed in range(8)]
    estimates = [each.log_probability(labels[100:]) for each in found]
    long = posterior(K, labels[:100], seed=99, particles=128).log_probability(labels[100:])
    values, errors = np.array([e.value for e in estimates]), np.array([e.stderr for e in estimates])
    independent = np.array([e.diagnostics["independent_stderr"] for e in estimates])
    assert np.mean(independent / errors) > 2.5
    z = (values - long.value) / np.hypot(errors, long.stderr)
    assert np.abs(z).max() < 4
    assert 0.4 < math.sqrt(np.mean(z**2)) < 1.8
    predictive = np.array([each.predictive().value for each in found])
    claimed = np.array([each.predictive().stderr for each in found])
    assert 0.7 < math.sqrt(np.mean(predictive.var(axis=0, ddof=1)) / np.mean(claimed**2)) < 1.4


def test_test_inputs_that_training_inputs_determine() -> None:
    """Inputs 3 and 4 are input 0, opposite and three times as large; input 5 is a copy of input 2, which is free."""
    X = np.array([[1, 0, 0.2], [0.3, 1, 0], [-0.2, 0.4, 1], [-1, 0, -0.2], [3, 0, 0.6], [-0.2, 0.4, 1]])
    found = posterior(X @ X.T, [1, -1])
    predictive = found.predictive()
    assert predictive.value[[1, 2]].tolist() == [0.0, 1.0]
    assert predictive.stderr[[1, 2]].tolist() == [0.0, 0.0]
    assert predictive.value[0] == predictive.value[3]
    assert found.vote_error([1, -1, 1, 1]).value <= 0.5
    for y, pair in (([1, 1, 1, 1], "0 and 3"), ([1, -1, -1, 1], "0 and 4"), ([1, -1, 1, -1], "2 and 5")):
        estimate = found.log_probability(y)
        assert (estimate.value, estimate.status) == (-math.inf, "impossible")
        assert f"inputs {pair}" in estimate.message
    both = [found.log_probability([y, -1, 1, y]) for y in (-1, 1)]
    assert abs(sum(math.exp(each.value) for each in both) - 1) < 4 * (both[0].stderr or 0)
    samples = found.samples(50)
    np.testing.assert_allclose(samples[:, 3], -samples[:, 0], rtol=1e-12)
    np.testing.assert_allclose(samples[:, 4], 3 * samples[:, 0], rtol=1e-12)
    np.testing.assert_allclose(samples[:, 5], samples[:, 2], rtol=1e-12)
    determined = posterior((X @ X.T)[np.ix_([0, 1, 3], [0, 1, 3])], [1, -1])
    certain = determined.log_probability([-1])
    assert (certain.value, certain.stderr, certain.status) == (0.0, 0.0, "ok")


def test_a_kernel_of_low_rank() -> None:
    """Linear functions of three variables at nine inputs: five training inputs, more than the rank, and four others."""
    X = np.random.default_rng(3).standard_normal((9, 3))
    K, labels = X @ X.T, np.sign(X @ [1.0, 0.5, -0.2]).astype(int)
    found = posterior(K, labels[:5], particles=256)
    functions = accepted(K, labels[:5], 400_000)
    predictive = found.predictive()
    rate = np.mean(functions[:, 5:] > 0, axis=0)
    allowed = 4 * np.hypot(predictive.stderr, np.sqrt(np.maximum(rate * (1 - rate), 1e-3) / len(functions)))
    assert np.all(np.abs(predictive.value - rate) < allowed)
    estimates = [found.log_probability(y) for y in all_labellings(4)]
    total = sum(math.exp(each.value) for each in estimates)
    finite = [each for each in estimates if each.value > -math.inf]
    error = math.sqrt(sum((math.exp(each.value) * (each.stderr or 0)) ** 2 for each in finite))
    assert abs(total - 1) < 4 * error < 0.2
    assert {each.status for each in estimates if each.value == -math.inf} == {"no-hits"}
    samples = found.samples(200)
    assert np.linalg.matrix_rank(samples, tol=1e-6) == 3
    assert np.all(samples[:, :5] * labels[:5] > 0)


def test_noise_is_on_training_and_test_inputs() -> None:
    K, labels = digits(40, Threshold(at=5))
    noisy = posterior(K, labels[:30], noise_variance=0.5)
    diagonal_shift = posterior(K + 0.5 * np.eye(40), labels[:30])
    jittered = posterior(K, labels[:30], jitter=0.5 / np.mean(np.diagonal(K)))
    for other in (diagonal_shift, jittered):
        np.testing.assert_allclose(noisy.predictive().value, other.predictive().value, atol=1e-9)
        np.testing.assert_allclose(noisy.samples(3), other.samples(3), atol=1e-9)
        assert noisy.log_probability(labels[30:]).value == pytest.approx(other.log_probability(labels[30:]).value)
    assert (noisy.diagonal_shift, noisy.log_p.diagonal_shift, noisy.log_probability(labels[30:]).diagonal_shift) == (
        0.5,
        0.5,
        0.5,
    )
    assert "K + cI" in noisy.log_probability(labels[30:]).message
    K[35], K[:, 35] = K[0], K[:, 0]
    K[35, 35] = K[0, 0]
    assert 0 < posterior(K, labels[:30], noise_variance=0.5).predictive().value[5] < 1


def test_same_seed_same_bits_and_scale_does_not_matter() -> None:
    K, labels = digits(30, Threshold(at=5))
    first, again, scaled, other = (
        posterior(c * K, labels[:20], seed=seed) for c, seed in ((1.0, 0), (1.0, 0), (4.0, 0), (1.0, 1))
    )
    before = first.log_probability(-labels[20:])
    assert np.array_equal(first.predictive().value, again.predictive().value)
    assert first.log_probability(labels[20:]).value == again.log_probability(labels[20:]).value
    assert first.log_probability(-labels[20:]).value == before.value
    assert np.array_equal(first.samples(5), again.samples(5))
    assert np.array_equal(2 * first.samples(5), scaled.samples(5))
    assert np.array_equal(first.predictive().value, scaled.predictive().value)
    assert not np.array_equal(first.predictive().value, other.predictive().value)
    assert not np.array_equal(first.samples(5), first.samples(5, seed=1))


def test_the_estimate_of_the_training_labels_is_that_of_log_probability() -> None:
    K, labels = digits(80, Threshold(at=5))
    found, alone = posterior(K, labels[:60]).log_p, log_probability(K[:60, :60], labels[:60])
    assert abs(found.value - alone.value) < 4 * math.hypot(found.stderr or 0, alone.stderr or 0)
    assert (found.n, found.method, found.status) == (60, "smc", "ok")
    assert found.lower_bound() < found.value


def test_of_an_architecture_and_inputs() -> None:
    X = load(Digits(n=30)).X
    K, labels = kernel(FullyConnected(depth=1), X), digits(30, Threshold(at=5))[1]
    told: list[Progress] = []
    found = function_posterior(FullyConnected(depth=1), X[:20], labels[:20], X[20:], progress=told.append, seed=3)
    expected = posterior(K, labels[:20], seed=3)
    np.testing.assert_allclose(found.predictive().value, expected.predictive().value, atol=1e-9)
    assert (found.train, found.test) == (20, 10)
    assert told
    with pytest.raises(InvalidInput, match="X_test: has inputs of shape"):
        function_posterior(FullyConnected(), X[:20], labels[:20], X[20:, :5])


@pytest.mark.slow
def test_the_lines_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).parents[2] / "docs" / "posterior.md"
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        exec(block, names)
    assert names["f"].shape == (1000, 300)
    assert names["parts"].value.shape == (60,)
    assert re.search(r"votes? uncertain", capsys.readouterr().out)


@pytest.mark.slow
def test_where_the_large_matrices_are_on_a_device() -> None:
    K, labels = digits(50, Threshold(at=5))
    K[1], K[:, 1] = K[0], K[:, 0]  # singular, for the order of visits
    K[1, 1] = K[0, 0]
    labels[1] = labels[0]
    here, there = (posterior(K, labels[:40], backend=backend) for backend in ("numpy", "jax"))
    first, second = here.predictive(), there.predictive()
    assert np.all(np.abs(first.value - second.value) < 4 * np.hypot(first.stderr, second.stderr) + 1e-3)
    np.testing.assert_allclose(np.abs(there.samples(2)[:, 1]), np.abs(there.samples(2)[:, 0]), rtol=1e-12)
    given = [each.log_probability(labels[40:]) for each in (here, there)]
    assert abs(given[0].value - given[1].value) < 4 * math.hypot(given[0].stderr or 0, given[1].stderr or 0)


def test_without_test_inputs() -> None:
    K, labels = digits(20, Threshold(at=5))
    found = posterior(K, labels)
    assert found.samples(3).shape == (3, 20)
    assert found.predictive().value.shape == (0,)
    for use in (found.log_probability, found.gibbs_error, found.vote_error):
        with pytest.raises(InvalidInput, match="no test inputs"):
            use([])


@pytest.mark.parametrize(
    ("labels", "options", "field"),
    [
        ([], {}, "y"),
        ([1] * 7, {}, "y"),
        ([0, 1], {}, "y"),
        ([[1, -1]], {}, "y"),
        ([1, -1], {"classes": 2}, "y"),
        ([0, 1], {"classes": 1}, "classes"),
        ([1, -1], {"target_stderr": 0.1}, "target_stderr"),
        ([1, -1], {"method": "ep"}, "method"),
        ([1, -1], {"seed": True}, "seed"),
    ],
)
def test_misuse(labels: list, options: dict, field: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{field}: "):
        posterior(equicorrelated(6, 0.5), labels, **options)


def test_misuse_of_a_posterior() -> None:
    found = posterior(equicorrelated(6, 0.5), [1, -1])
    for labels in ([1, -1], [1, -1, 1, 1, 1, 1], [0, 1, 1, 1]):
        with pytest.raises(InvalidLabels, match="y: "):
            found.log_probability(labels)
    for count in (0, True):
        with pytest.raises(InvalidInput, match="count: "):
            found.samples(count)
    with pytest.raises(InvalidInput, match="level: "):
        found.predictive().uncertain(1.0)


def test_labels_that_cannot_be() -> None:
    K = equicorrelated(4, 0.5)
    K[1], K[:, 1] = K[0], K[:, 0]
    K[1, 1] = 1.0
    with pytest.raises(InvalidLabels, match="inputs 0 and 1"):
        posterior(K, [1, -1, 1])
    assert 0 < posterior(K, [1, -1, 1], noise_variance=1.0).predictive().value[0] < 1
    X = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 2.0]])
    with pytest.raises(InvalidLabels, match="no particle satisfied"):
        posterior(X @ X.T, [1, 1, -1])
