"""Labels of more than two classes: the class whose function, of C independent ones, is the largest."""

import math

import numpy as np
import pytest
from scipy.special import log_ndtr, logsumexp

from nngp_prior import log_probabilities, log_probability
from nngp_prior.data import label, load
from nngp_prior.kernels import kernel
from nngp_prior.probability.factored_kernel import prepare
from nngp_prior.probability.multiclass import differences
from nngp_prior.probability.registry import ESTIMATORS
from nngp_prior.progress import ignore
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.specs.architecture import FullyConnected
from nngp_prior.schemas.specs.data import Classes, Digits, Mnist
from nngp_prior.schemas.specs.estimator import SMC
from tests.cases import equicorrelated


def random_kernel(n: int) -> np.ndarray:
    A = np.random.default_rng(n).standard_normal((n, n + 2))
    return A @ A.T


def digits_of_all_classes(n: int) -> tuple[np.ndarray, np.ndarray]:
    data = load(Digits(n=n))
    return kernel(FullyConnected(), data.X), label(Classes(), data.classes, data.known_classes)


def all_labellings(n: int, classes: int) -> np.ndarray:
    return np.indices((classes,) * n).reshape(n, -1).T


def equicorrelated_truth(rho: float, counts: list[int]) -> float:
    """Three classes with so many inputs each. f^c_i = √ρ a_c + √(1 - ρ) e_ci: inputs are independent given a.

    P does not depend on what the a have in common: a plane is left, and the own e. Trapezoidal rules.
    """
    x = np.linspace(-8, 8, 161)
    basis = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])
    a = math.sqrt(rho / (1 - rho)) * (x[:, None, None] * basis[0] + x[:, None] * basis[1])
    e = np.linspace(-9, 9, 91)
    log_p = -0.5 * (x[:, None] ** 2 + x**2)
    for c, count in enumerate(counts):
        if count:
            others = sum(log_ndtr(a[..., c, None] + e - a[..., d, None]) for d in range(3) if d != c)
            log_p += count * logsumexp(others - 0.5 * e**2, b=0.2 / math.sqrt(2 * math.pi), axis=-1)
    return float(logsumexp(log_p, b=0.01 / (2 * math.pi)))


def general(K: np.ndarray, labels: np.ndarray, classes: int) -> Estimate:
    """What three and more classes go through."""
    parameters = SMC()
    problem = differences(prepare(K, parameters), labels, classes)
    return ESTIMATORS[parameters](problem, np.ones(problem.m), parameters, 1, ignore)


def assert_agree(first: Estimate, second: Estimate) -> None:
    assert abs(first.value - second.value) < 4 * math.hypot(first.stderr or 0, second.stderr or 0)


@pytest.mark.parametrize("classes", [2, 3, 10, 50])
@pytest.mark.parametrize("K", [np.array([[3.0]]), np.ones((4, 4))], ids=["one input", "four equal ones"])
def test_one_input_has_each_class_alike(K: np.ndarray, classes: int) -> None:
    estimate = log_probability(K, np.ones(len(K), dtype=int), classes=classes)
    assert (estimate.value, estimate.stderr) == (-math.log(classes), 0)
    assert (estimate.n, estimate.diagnostics["distinct_inputs"]) == (len(K), 1)


@pytest.mark.parametrize("classes", [3, 10])
def test_independent_inputs(classes: int) -> None:
    labels = np.arange(8) % classes
    estimate = log_probability(np.diag(np.geomspace(1e-6, 1e6, 8)), labels, classes=classes)
    assert abs(estimate.value + 8 * math.log(classes)) < 4 * (estimate.stderr or 0)


@pytest.mark.parametrize("n", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_all_labellings_sum_to_one_and_each_is_as_often_drawn(n: int) -> None:
    K, draws = random_kernel(n), 300_000
    estimates = log_probabilities(K, all_labellings(n, 3), classes=3, particles=32)
    p = np.exp([estimate.value for estimate in estimates])
    error = p * [estimate.stderr for estimate in estimates]
    assert abs(p.sum() - 1) < 4 * math.sqrt(np.sum(error**2))
    assert math.sqrt(np.sum(error**2)) < 0.002
    f = np.linalg.cholesky(K) @ np.random.default_rng(0).standard_normal((3, n, draws))
    counts = np.bincount(3 ** np.arange(n)[::-1] @ f.argmax(axis=0), minlength=3**n) / draws
    assert np.all(np.abs(p - counts) < 4.5 * np.sqrt(error**2 + p * (1 - p) / draws))


@pytest.mark.parametrize(
    ("rho", "counts"), [(0.5, [20, 0, 0]), (0.8, [40, 0, 0]), (0.5, [10, 5, 2]), (0.9, [5, 30, 6])]
)
def test_agrees_with_the_integral_for_equal_correlations(rho: float, counts: list[int]) -> None:
    labels = np.repeat(np.arange(3), counts)
    estimate = log_probability(equicorrelated(sum(counts), rho), labels, classes=3)
    truth = equicorrelated_truth(rho, counts)
    assert estimate.status == "ok"
    assert abs(estimate.value - truth) < 4 * (estimate.stderr or 0)
    assert (estimate.lower_bound(0.001) or 0) < truth
    assert 0 < (estimate.stderr or 0) < 0.03


def test_two_classes_are_labels_of_minus_and_plus_one() -> None:
    K, classes = digits_of_all_classes(60)
    labels = (classes >= 5).astype(int)
    estimate = log_probability(K, labels, classes=2)
    assert estimate.value == log_probability(K, 2 * labels - 1).value
    assert_agree(general(K, labels, 2), estimate)


def test_scale_of_the_kernel_and_names_of_the_classes_do_not_matter() -> None:
    K, labels = digits_of_all_classes(30)
    options = {"classes": 10, "particles": 32}
    reference = log_probability(K, labels, **options)
    assert_agree(log_probability(K, 9 - labels, **options), reference)
    d = np.random.default_rng(0).gamma(1, size=30)
    scaled = log_probability(1e9 * K * np.outer(d, d), labels, **options)
    assert scaled.value == pytest.approx(reference.value, abs=1e-3)
    order = np.random.default_rng(1).permutation(30)
    assert_agree(log_probability(K[np.ix_(order, order)], labels[order], **options), reference)


def test_one_class_against_the_others_is_more_likely_than_all_classes() -> None:
    """Also that of two classes out of ten: where none of the others has an input it is less likely than among two."""
    K, labels = digits_of_all_classes(30)
    two = np.where(labels < 5, 0, 1)
    among = [log_probability(K, two, classes=classes, replicates=8).value for classes in (2, 3, 10)]
    assert among[0] > among[1] > among[2]


def test_noise_is_added_for_each_class() -> None:
    K, labels = digits_of_all_classes(20)
    noisy = log_probability(K, labels, classes=10, replicates=4, noise_variance=0.3)
    direct = log_probability(K + 0.3 * np.eye(20), labels, classes=10, replicates=4)
    assert noisy.value == pytest.approx(direct.value, abs=1e-9)
    assert "K + cI with c = 0.3" in noisy.message


def test_ep_is_near_and_says_nothing_of_its_error() -> None:
    K, labels = digits_of_all_classes(30)
    smc, ep, ep2 = (log_probability(K, labels, classes=10, method=method) for method in ("smc", "ep", "ep2"))
    assert (ep.status, ep.stderr, ep.lower_bound()) == ("ok", None, None)
    assert abs(ep.value - smc.value) < 0.03 * abs(smc.value)
    assert abs(ep2.value - smc.value) < abs(ep.value - smc.value)


@pytest.mark.parametrize(("method", "status"), [("ghk", "ok"), ("sampling", "ok"), ("bernstein-yue", "heavy-tailed")])
def test_other_methods_agree(method: str, status: str) -> None:
    K, labels = random_kernel(4), np.array([0, 1, 2, 1])
    smc = log_probability(K, labels, classes=3)
    other = log_probability(K, labels, classes=3, method=method)
    assert other.status == status
    assert_agree(other, smc)
    assert (other.lower_bound(0.001) or 0) < smc.value


def test_a_certain_bound_without_randomness() -> None:
    K, labels = digits_of_all_classes(12)
    bound = log_probability(K, labels, classes=10, method="bernstein-yue", draws=2).diagnostics["c1_optimal_scale"]
    value = log_probability(K, labels, classes=10).value
    assert 3 * value < bound < value


def test_duplicates_with_the_same_class_do_not_count_and_others_are_impossible() -> None:
    K, labels = digits_of_all_classes(20)
    twice = np.concatenate([np.arange(20), np.arange(5)])
    doubled = log_probability(K[np.ix_(twice, twice)], labels[twice], classes=10)
    assert doubled.diagnostics["distinct_inputs"] == 20
    assert_agree(doubled, log_probability(K, labels, classes=10))
    other = labels[twice]
    other[22] = (other[22] + 1) % 10
    contradictory = log_probability(K[np.ix_(twice, twice)], other, classes=10)
    assert (contradictory.value, contradictory.status) == (-math.inf, "impossible")
    assert "inputs 2 and 22" in contradictory.message


def test_opposite_inputs_have_the_largest_and_the_smallest_function() -> None:
    """Without biases f(-2x) = -2 f(x): the largest function at x is the smallest at -2x."""
    X = np.array([[1.0], [-2.0]])
    estimate = log_probability(X @ X.T, [0, 1], classes=3, particles=256)
    assert abs(estimate.value - math.log(1 / 6)) < 4 * (estimate.stderr or 0)
    same = log_probability(X @ X.T, [1, 1], classes=3)
    assert same.status == "impossible"
    assert "inputs 0 and 1" in same.message
    assert log_probability(X @ X.T, [0, 1], classes=2).value == pytest.approx(-math.log(2), abs=0.001)
    fourth = np.vstack([X, [3.0]])
    assert log_probability(fourth @ fourth.T, [0, 1, 2], classes=3).status == "impossible"


def test_labellings_of_a_singular_kernel_sum_to_one() -> None:
    A = np.random.default_rng(0).standard_normal((3, 2))
    estimates = log_probabilities(A @ A.T, all_labellings(3, 3), classes=3, particles=32, replicates=16)
    p = np.exp([estimate.value for estimate in estimates])
    error = p * [estimate.stderr if p_ else 0.0 for p_, estimate in zip(p, estimates, strict=True)]
    assert abs(p.sum() - 1) < 4 * math.sqrt(np.sum(error**2))
    assert math.sqrt(np.sum(error**2)) < 0.01
    assert np.sum(p == 0) > 0


def test_the_device_gives_the_same() -> None:
    K, labels = digits_of_all_classes(10)
    options = {"classes": 10, "precision": "float64", "shares": (0.1, 0.6, 0.3), "particles": 32, "replicates": 8}
    host, device = (log_probability(K, labels, backend=backend, **options) for backend in ("numpy", "jax"))
    assert device.value == pytest.approx(host.value, abs=1e-6)


def test_the_same_value_in_any_batch() -> None:
    K, labels = digits_of_all_classes(20)
    batch = log_probabilities(K, [np.zeros(20, dtype=int), labels], classes=10, replicates=4, seed=3)
    assert batch[1].value == log_probability(K, labels, classes=10, replicates=4, seed=3).value


@pytest.mark.slow
def test_mnist(image_data) -> None:
    data = load(Mnist(n=200))
    labels = label(Classes(), data.classes, data.known_classes)
    estimate = log_probability(kernel(FullyConnected(depth=2), data.X), labels, classes=10)
    assert estimate.status == "ok"
    assert abs(estimate.value + 255.377) < 4 * math.hypot(estimate.stderr or 0, 0.01)  # of 16 other seeds
    assert 0 < (estimate.stderr or 0) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("rho", "counts"), [(0.8, [40, 0, 0]), (0.5, [10, 5, 2])])
def test_error_bar_over_seeds(rho: float, counts: list[int]) -> None:
    """95 % intervals cover in 95 ± 4.5 % of 200 runs, z-scores are standard, and the bound at δ = 0.05 holds."""
    K, labels, runs = equicorrelated(sum(counts), rho), np.repeat(np.arange(3), counts), 200
    truth = equicorrelated_truth(rho, counts)
    estimates = [log_probability(K, labels, classes=3, seed=seed) for seed in range(runs)]
    intervals = [estimate.interval() or (0.0, 0.0) for estimate in estimates]
    covered = sum(low <= truth <= high for low, high in intervals)
    z = [(estimate.value - truth) / (estimate.stderr or 0) for estimate in estimates]
    failures = sum((estimate.lower_bound(0.05) or 0) > truth for estimate in estimates)
    assert covered >= 0.905 * runs
    assert abs(np.mean(z)) < 0.3
    assert 0.8 < np.std(z) < 1.25
    assert failures <= 0.05 * runs
