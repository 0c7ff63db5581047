"""NNGP kernels of fully connected networks in closed form, in NumPy: the oracle of the kernel tests."""

import numpy as np

from nngp_prior.schemas.specs.architecture import FullyConnected


def relu_expectation(K: np.ndarray, variance: np.ndarray, variance2: np.ndarray) -> np.ndarray:
    """E[relu(u) relu(v)] = √(K₁₁ K₂₂) (sin θ + (π - θ) cos θ) / 2π, cos θ the correlation (Cho and Saul 2009)."""
    scale = np.sqrt(np.outer(variance, variance2))
    cosine = np.divide(K, scale, out=np.zeros_like(K), where=scale > 0)
    theta = np.arccos(np.clip(cosine, -1, 1))
    return scale * (np.sin(theta) + (np.pi - theta) * np.cos(theta)) / (2 * np.pi)


def erf_expectation(K: np.ndarray, variance: np.ndarray, variance2: np.ndarray) -> np.ndarray:
    """E[erf(u) erf(v)] = 2/π arcsin(2 K₁₂ / √((1 + 2 K₁₁)(1 + 2 K₂₂))) (Williams 1997, eq. 11)."""
    return 2 / np.pi * np.arcsin(2 * K / np.sqrt(np.outer(1 + 2 * variance, 1 + 2 * variance2)))


def fully_connected(architecture: FullyConnected, X: np.ndarray, X2: np.ndarray | None = None) -> np.ndarray:
    """The recursion of Lee et al. (2018), eqs 4 and 5."""
    expectation = {"relu": relu_expectation, "erf": erf_expectation}[architecture.activation]
    X2 = X if X2 is None else X2

    def layer(expected: np.ndarray) -> np.ndarray:
        return architecture.bias_std**2 + architecture.weight_std**2 * expected

    K = layer(X @ X2.T / X.shape[1])
    variance, variance2 = (layer(np.sum(A * A, axis=1) / A.shape[1]) for A in (X, X2))
    for _ in range(architecture.depth):
        K, variance, variance2 = (
            layer(expectation(K, variance, variance2)),
            *(layer(expectation(np.diag(v), v, v).diagonal()) for v in (variance, variance2)),
        )
    return K
