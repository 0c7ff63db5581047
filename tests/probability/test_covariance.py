"""What is no covariance is refused, and tolerances follow the precision that K came in."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from nngp_prior import FullyConnected, kernel, log_probability, posterior
from nngp_prior.errors import InvalidKernel
from nngp_prior.kernels import inspect

_HALVES = np.where(np.arange(64) < 32, 1, -1)


def _cancelled(center: float) -> np.ndarray:
    """exp(-½ d²) with d² = x² + x'² - 2xx' in float32, far from 0: digits cancel, and no covariance is left."""
    x = np.linspace(center, center + 1, 64).astype(np.float32)
    return np.exp(-0.5 * (x[:, None] ** 2 + x**2 - 2 * np.outer(x, x))).astype(np.float32)


def _chain(r: float) -> np.ndarray:
    """Inputs 0 and 1 are tied, and 1 and 2, but 0 and 2 are not."""
    return np.array([[1, 1, r], [1, 1, 1], [r, 1, 1]])


_FUNCTIONS: list[Callable] = [
    *(lambda K, y, method=method: log_probability(K, y, method=method) for method in ("smc", "ep", "sampling")),
    *(lambda K, y, method=method: log_probability(K, y, method=method) for method in ("closed-form", "bernstein-yue")),
    lambda K, y: log_probability(K, (np.asarray(y) > 0).astype(int), classes=3),
    lambda K, y: posterior(K, y[:-1]),
    lambda K, y: inspect(K),
]


@pytest.mark.parametrize("function", _FUNCTIONS)
@pytest.mark.parametrize("r", [0, 0.5, 0.9, 1 - 1e-6])
def test_tied_inputs_have_equal_rows(function: Callable, r: float) -> None:
    with pytest.raises(InvalidKernel, match=r"not positive semi-definite.*inputs? [012]"):
        function(_chain(r), [1, 1, 1])


@pytest.mark.parametrize("function", _FUNCTIONS)
@pytest.mark.parametrize("center", [500, 2000])
def test_negative_eigenvalues_are_refused(function: Callable, center: float) -> None:
    K = _cancelled(center)
    assert np.linalg.eigvalsh(K.astype(np.float64))[0] < -0.1
    with pytest.raises(InvalidKernel, match=r"not positive semi-definite.*inputs \d+ and \d+"):
        function(K, _HALVES)


@pytest.mark.parametrize(("size", "named"), [(1e-3, True), (1e-6, True), (1e-14, False)])
def test_a_negative_eigenvalue_beyond_rounding_is_named_with_its_size(size: float, named: bool) -> None:
    """An eigenvector with most of it at inputs 7 and 12, whose eigenvalue is made negative."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((20, 20))
    A[:, 0] = np.eye(20)[7] - 0.9 * np.eye(20)[12] + 0.5 * np.eye(20)[3]
    Q, _ = np.linalg.qr(A)
    values = np.concatenate([[-size], rng.uniform(0.5, 1.5, 19)])
    K = (Q * values) @ Q.T
    K = (K + K.T) / 2
    if not named:
        assert math.isfinite(log_probability(K, np.ones(20)).value)
        return
    for function in (log_probability, lambda K, y: inspect(K)):
        with pytest.raises(InvalidKernel, match="inputs 7 and 12") as caught:
            function(K, np.ones(20))
        assert _claimed(caught.value) == pytest.approx(np.linalg.eigvalsh(_correlations(K))[0], rel=0.06)


@pytest.mark.parametrize("size", [1e-3, 1e-5, 1e-7, 1e-9])
@pytest.mark.parametrize("seed", range(3))
def test_a_negative_eigenvalue_in_any_direction_is_refused_and_the_remedy_helps(size: float, seed: int) -> None:
    """A smooth kernel, of numerical rank 15 or so, less size · v vᵀ in a random direction v."""
    x = np.linspace(0, 1, 100)
    v = np.random.default_rng(seed).standard_normal(100)
    K = np.exp(-0.5 * (x[:, None] - x) ** 2 / 0.3**2) - size * np.outer(v, v) / (v @ v)
    for function in _FUNCTIONS:
        with pytest.raises(InvalidKernel) as caught:
            function(K, np.where(x < 0.5, 1, -1))
        assert _claimed(caught.value) == pytest.approx(np.linalg.eigvalsh(_correlations(K))[0], rel=0.06)
    jitter = float(str(caught.value).split("jitter=")[1].rstrip("."))
    assert math.isfinite(log_probability(K, np.where(x < 0.5, 1, -1), jitter=jitter, particles=8).value)


def _claimed(error: InvalidKernel) -> float:
    return float(str(error).split("the eigenvalue ")[1].split(",")[0])


def _correlations(K: np.ndarray) -> np.ndarray:
    scale = 1 / np.sqrt(K.diagonal())
    return K * (scale[:, None] * scale)


def test_no_hits_for_a_kernel_whose_precision_does_not_suffice_say_so() -> None:
    """A smooth kernel in float32; in float64 log P is -125.66 ± 0.03. With the named jitter it has a value."""
    x = np.linspace(-3, 3, 80)
    K = np.exp(-0.5 * (x[:, None] - x) ** 2)
    y = np.where(np.sin(8 * x) > 0, 1, -1)
    found = log_probability(K.astype(np.float32), y)
    assert (found.value, found.status) == (-math.inf, "rounding")
    assert "more particles" not in found.message
    jitter = float(found.message.split("jitter=")[1].split(",")[0])
    single, double = (log_probability(A, y, jitter=jitter) for A in (K.astype(np.float32), K))
    assert (single.status, double.status) == ("ok", "ok")
    assert abs(single.value - double.value) < 4 * math.hypot(single.stderr, double.stderr) + 0.01
    meant = log_probability(K, y, seed=1)
    assert meant.status == "ok"
    assert abs(meant.value + 125.66) < 4 * meant.stderr


def test_the_kernel_that_was_meant_has_its_value() -> None:
    """In float64, and rounded to float32 where it is within rounding of a covariance."""
    x = np.linspace(500, 501, 64)
    K = np.exp(-0.5 * (x[:, None] - x) ** 2)
    exact, rounded = log_probability(K, _HALVES), log_probability(K.astype(np.float32), _HALVES)
    assert abs(exact.value + 6.07) < 4 * exact.stderr + 0.005
    assert abs(rounded.value + 6.07) < 4 * rounded.stderr + 0.005


def test_copies_are_tied_in_float32() -> None:
    """100 images twice, with one label contradicted; without, the copies do not count."""
    X = np.random.default_rng(0).random((100, 50))
    K = kernel(FullyConnected(depth=2), np.concatenate([X, X]), dtype="float32")
    labels = np.where(X[:, 0] > 0.5, 1, -1)
    twice = np.concatenate([labels, labels])
    once, both = log_probability(K[:100, :100], labels), log_probability(K, twice)
    assert both.diagnostics["distinct_inputs"] == 100
    assert abs(once.value - both.value) < 4 * math.hypot(once.stderr, both.stderr)
    twice[150] *= -1
    assert log_probability(K, twice).status == "impossible"


@pytest.mark.parametrize(
    ("dtype", "gap", "uncertain"), [(np.float32, 1e-6, True), (np.float64, 1e-14, True), (np.float64, 3e-9, False)]
)
@pytest.mark.parametrize("method", ["smc", "closed-form"])
def test_inputs_that_differ_by_more_than_rounding_are_not_tied(
    method: str, dtype: type, gap: float, uncertain: bool
) -> None:
    """Contradictory labels at correlation ρ: P = arccos(ρ)/2π, and half a unit in the last place of ρ is unknown."""
    K = np.array([[1, 1 - gap], [1 - gap, 1]], dtype=dtype)
    distance, unknown = 1 - float(K[0, 1]), float(np.finfo(dtype).eps) / 4
    truths = [math.log(math.sqrt(2 * (distance + shift)) / (2 * math.pi)) for shift in (-unknown, 0, unknown)]
    estimate = log_probability(K, [1, -1], method=method)
    assert abs(estimate.value - truths[1]) < 4 * estimate.stderr + 1e-6
    assert (estimate.status == "rounding") == uncertain
    if uncertain:
        low, high = estimate.interval()
        assert low < min(truths) < max(truths) < high
        assert "depends on the rounding of K" in estimate.message
        assert estimate.lower_bound() < min(truths)
        jitter = float(estimate.message.split("jitter=")[1].split(",")[0])
        assert log_probability(K, [1, -1], method=method, jitter=jitter).status == "ok"
