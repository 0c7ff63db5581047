"""Diagnostics of importance weights."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

_SMALLEST_TAIL = 20


def effective_sample_size(log_weights: Float[np.ndarray, " *shape"]) -> float:
    """Return Kish's (Σw)²/Σw², between 0 (all weights zero) and the number of weights."""
    flat = log_weights.ravel()
    if np.all(np.isneginf(flat)):
        return 0.0
    return math.exp(2 * float(logsumexp(flat)) - float(logsumexp(2 * flat)))


def largest_share(log_weights: Float[np.ndarray, " *shape"]) -> float:
    """Return the largest weight's share of the sum of squared deviations from the mean weight."""
    peak = log_weights.max()
    if np.isneginf(peak):
        return 0.0
    weights = np.exp(log_weights - peak)
    squared = np.square(weights - weights.mean())
    total = float(squared.sum())
    return float(squared.max()) / total if total > 0 else 0.0


def largest_for_pareto(log_weights: Float[np.ndarray, " some"], count: int) -> Float[np.ndarray, " fewer"]:
    """Return the weights that :func:`pareto_k` uses.

    Args:
        log_weights: logarithms of weights.
        count: total number of weights.

    Returns:
        the largest ones, in any order.
    """
    needed = _tail(count) + 1
    return log_weights if len(log_weights) <= needed else np.partition(log_weights, -needed)[-needed:]


def _tail(count: int) -> int:
    return int(min(0.2 * count, 3 * math.sqrt(count)))


def pareto_k(log_weights: Float[np.ndarray, " *shape"], count: int | None = None) -> float | None:
    """Shape k̂ of a generalised Pareto distribution fitted to the largest weights.

    The fit is Zhang and Stephens' (Technometrics 51, 2009) with the weak prior of Vehtari et al. (Pareto smoothed
    importance sampling, 2024, appendix G): moments of order below 1/k exist, above k̂ ≈ 0.7 means of thousands of
    weights cannot be trusted.

    Args:
        log_weights: logarithms of the weights, in any shape.
        count: total number of weights, if only :func:`largest_for_pareto` of them are given.

    Returns:
        k̂ (infinite if weights are hundreds of nats apart), or None if the tail has fewer than 20 distinct weights.
    """
    flat = np.sort(log_weights.ravel())
    size = _tail(count or len(flat))
    if size < _SMALLEST_TAIL or np.isneginf(flat[-size - 1]):
        return None
    threshold = flat[-size - 1]
    x = np.exp(flat[-size:] - flat[-1]) - np.exp(threshold - flat[-1])  # exceedances, in units of the largest weight
    x = x[x > 0]
    n = len(x)
    if n < _SMALLEST_TAIL:  # all equal, or so far apart that they underflow relative to the largest
        return math.inf if np.sum(flat[-size:] > threshold) >= _SMALLEST_TAIL else None
    x = x / x[-1]
    candidates = 30 + int(math.sqrt(n))
    b = 1 - np.sqrt(candidates / (np.arange(1, candidates + 1) - 0.5))
    theta = 1 + b / (3 * x[int(n / 4 + 0.5) - 1])
    k = np.mean(np.log1p(-theta[:, None] * x), axis=1)
    theta_over_k = np.divide(-theta, k, out=np.full(candidates, 1 / np.mean(x)), where=theta != 0)  # its limit at 0
    log_likelihood = n * (np.log(theta_over_k) - k - 1)
    weight = np.exp(log_likelihood - logsumexp(log_likelihood))
    k_hat = float(np.mean(np.log1p(-(weight @ theta) * x)))
    return (n * k_hat + 10 * 0.5) / (n + 10)
