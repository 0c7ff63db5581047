"""Derivatives of log P against closed forms, finite differences and the invariance under scaling."""

import math

import numpy as np
import pytest

from nngp_prior import EP, SMC, FullyConnected, kernel, log_probability
from nngp_prior.errors import InvalidInput, InvalidKernel, InvalidLabels
from nngp_prior.probability.gradient import log_probability_gradient

OFF_DIAGONAL = np.array([[0.0, 1.0], [1.0, 0.0]])


@pytest.mark.parametrize("rho", [-0.7, 0.0, 0.5, 0.9])
def test_two_inputs(rho: float) -> None:
    """P = 1/4 + arcsin(ρ)/2π for equal labels."""
    K = np.eye(2) + rho * OFF_DIAGONAL
    P = 0.25 + math.asin(rho) / (2 * math.pi)
    expected = 1 / (2 * math.pi * math.sqrt(1 - rho**2)) / P
    found = log_probability_gradient(K, [1, 1], OFF_DIAGONAL, particles=256)
    assert found.stderr is not None
    assert abs(found.value[0] - expected) < 4 * found.stderr[0]
    assert found.stderr[0] < 0.05 * abs(expected) + 0.02
    if abs(rho) < 0.9:  # EP is off by 30 % there
        assert abs(found.ep[0] - expected) < 0.05 * abs(expected)


def product_correlation(loadings: np.ndarray) -> np.ndarray:
    K = np.outer(loadings, loadings)
    np.fill_diagonal(K, 1.0)
    return K


def test_finite_differences_of_the_closed_form() -> None:
    loadings = np.linspace(-0.8, 0.9, 12)
    y = np.where(np.arange(12) % 3 == 0, -1, 1)
    h = 1e-5
    directions, expected = [], []
    for i in range(0, 12, 3):
        up, down = loadings.copy(), loadings.copy()
        up[i] += h
        down[i] -= h
        directions.append((product_correlation(up) - product_correlation(down)) / (2 * h))
        values = [log_probability(product_correlation(each), y, "closed-form").value for each in (up, down)]
        expected.append((values[0] - values[1]) / (2 * h))
    found = log_probability_gradient(product_correlation(loadings), y, directions, particles=256, seed=3)
    assert found.stderr is not None
    assert np.all(np.abs(found.value - expected) < 4 * found.stderr)
    assert found.stderr.max() < 0.02
    assert np.abs(found.ep - expected).max() < 0.02


@pytest.mark.parametrize("method", [SMC(), EP()])
def test_the_scale_of_the_kernel_does_not_matter(method: SMC | EP) -> None:
    """E[fᵀ K⁻¹ f | y] = n: the derivative along K is 0, and so is its error, since the control variate is the form."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 5))
    K = kernel(FullyConnected(), X)
    found = log_probability_gradient(K, np.where(X[:, 0] > 0, 1, -1), K, method)
    assert abs(found.value[0]) < (1e-9 if isinstance(method, SMC) else 1e-3)


def test_noise_and_jitter_against_finite_differences() -> None:
    """EP's derivative, with a jitter that changes with K; inputs with copies."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((20, 3))
    X[5] = X[4]
    y = np.where(X[:, 1] > 0, 1, -1)
    a = FullyConnected(activation="erf", weight_std=1.5, bias_std=0.5)
    dK = kernel(a, X, get="d-weight-std")
    method = EP(jitter=0.1, noise_variance=0.05, tolerance=1e-8, precision="float64", max_sweeps=200)
    found = log_probability_gradient(kernel(a, X), y, dK, method)
    h = 1e-4
    values = [
        log_probability(kernel(a.model_copy(update={"weight_std": 1.5 + step}), X), y, method).value for step in (h, -h)
    ]
    assert found.stderr is None
    assert found.value[0] == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-5)


def test_standard_errors_cover() -> None:
    rng = np.random.default_rng(2)
    X = rng.standard_normal((10, 4))
    y = np.where(X[:, 0] + X[:, 1] > 0, 1, -1)
    a = FullyConnected(activation="erf")
    K, dK = kernel(a, X), [kernel(a, X, get=get) for get in ("d-weight-std", "d-bias-std")]
    best = log_probability_gradient(K, y, dK, particles=512, replicates=64)
    assert best.stderr is not None
    z = []
    for seed in range(20):
        found = log_probability_gradient(K, y, dK, seed=seed, particles=16, replicates=16)
        assert found.stderr is not None
        z.append((found.value - best.value) / np.hypot(found.stderr, best.stderr))
    assert np.sqrt(np.mean(np.square(z))) == pytest.approx(1, abs=0.3)
    assert np.abs(np.mean(z)) < 0.4


def test_bad_input() -> None:
    K = np.eye(3)
    with pytest.raises(InvalidInput, match="dK: has shape"):
        log_probability_gradient(K, [1, 1, 1], np.eye(2))
    with pytest.raises(InvalidInput, match="dK: is not symmetric"):
        log_probability_gradient(K, [1, 1, 1], np.triu(np.ones((3, 3))))
    with pytest.raises(InvalidInput, match="not finite"):
        log_probability_gradient(K, [1, 1, 1], np.full((3, 3), np.nan))
    with pytest.raises(InvalidInput, match="method: got 'laplace'"):
        log_probability_gradient(K, [1, 1, 1], K, "laplace", noise_variance=0.1)
    with pytest.raises(InvalidInput, match="classes: got 3"):
        log_probability_gradient(K, [1, 1, 1], K, classes=3)
    with pytest.raises(InvalidInput, match="names: are 2 for 1"):
        log_probability_gradient(K, [1, 1, 1], K, names=["a", "b"])
    with pytest.raises(InvalidLabels, match="contradictory"):
        log_probability_gradient(np.ones((2, 2)), [1, -1], np.eye(2))
    A = np.array([[1.0, 0], [0, 1], [1, 1]])
    with pytest.raises(InvalidKernel, match="has rank 2 for 3 inputs"):
        log_probability_gradient(A @ A.T, [1, 1, 1], K)
