"""Kernels and labellings with skewed importance weights, most with log P by quadrature, recursion or in closed form."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.special import log_ndtr, logsumexp, ndtr

from tests.cases import Case

_POINTS = {1: 2000, 2: 700, 3: 90}  # of the final grid, by the number of factors


def log_orthant_factors(loadings: Float[np.ndarray, "n k"], variance: float, labels: Float[np.ndarray, " n"]) -> float:
    """log P under K = A Aᵀ + v I, by the trapezoidal rule over up to three factors.

    The integrand Π_i Φ(y_i (A x)_i/√v) φ(x) is log-concave: the grid is refined to where it is within e⁻³⁴ of its
    largest value.
    """
    k = loadings.shape[1]
    rows, counts = np.unique(np.round(labels[:, None] * loadings / math.sqrt(variance), 12), axis=0, return_counts=True)
    low, high = np.full(k, -9.0), np.full(k, 9.0)
    coarse = _POINTS[k] // 3
    for points in (*[coarse] * 5, _POINTS[k]):
        axes = [np.linspace(*ends, points) for ends in zip(low, high, strict=True)]
        x = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, k)
        logs = -np.square(x).sum(axis=1) / 2 - k / 2 * math.log(2 * math.pi)
        for start in range(0, len(x), 2**15):
            part = slice(start, start + 2**15)
            logs[part] += log_ndtr(x[part] @ rows.T) @ counts
        inside = x[logs > logs.max() - 34]
        steps = [axis[1] - axis[0] for axis in axes]
        value = float(logsumexp(logs)) + sum(map(math.log, steps))
        low, high = np.maximum(inside.min(axis=0) - steps, -9), np.minimum(inside.max(axis=0) + steps, 9)
    return value


def log_orthant_ar1(rho: float, labels: Float[np.ndarray, " n"], points: int = 800) -> float:
    """log P under correlations ρ^|i - j|: the density of y_i f_i and of the constraints so far."""
    x, weights = np.polynomial.legendre.leggauss(points)
    x, weights = 4.5 * (x + 1), 4.5 * weights  # from 0 to 9
    deviation = math.sqrt(1 - rho**2)

    def step(sign: float) -> np.ndarray:
        z = (x[:, None] - sign * rho * x) / deviation
        return np.exp(-(z**2) / 2) / (deviation * math.sqrt(2 * math.pi)) * weights

    steps = {sign: step(sign) for sign in (-1.0, 1.0)}
    density, log_p = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi), 0.0
    for sign in labels[1:] * labels[:-1]:
        density = steps[float(sign)] @ density
        log_p += math.log(density.max())
        density /= density.max()
    return log_p + math.log(float(weights @ density))


def log_orthant_ma1(theta: float, labels: Float[np.ndarray, " n"], points: int = 80_001) -> float:
    """log P of f_i = e_i + θ e_{i-1} with 0 < |θ| ≤ 1: the density of e_i and of the constraints so far."""
    x = np.linspace(-9, 9, points)
    step = x[1] - x[0]
    normal = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    below, log_p = ndtr(x), 0.0  # P(e_{i-1} ≤ x, constraints so far), over a factor
    for sign in labels:
        left = np.interp(-x / theta, x, below)
        density = normal * ((below[-1] - left) if sign * theta > 0 else left)
        below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) * (step / 2))])
        log_p += math.log(below[-1])
        below /= below[-1]
    return log_p


def _factors(k: int, variance: float, odd: int, n: int = 200) -> Case:
    """A mean and one wave (two factors) or a wave's sine and cosine (three); ``odd`` negative labels."""
    angle, labels = 2 * np.pi * np.arange(n) / n, np.ones(n)
    labels[np.random.default_rng(odd).choice(n, odd, replace=False)] = -1
    loadings = np.stack([np.ones(n), np.cos(angle), np.sin(angle)][:k], axis=1)
    return Case(loadings @ loadings.T + variance * np.eye(n), labels, log_orthant_factors(loadings, variance, labels))


def _ar1(rho: float, labels: np.ndarray) -> Case:
    i = np.arange(len(labels))
    return Case(rho ** np.abs(i[:, None] - i), labels, log_orthant_ar1(rho, labels))


def _ma1(theta: float, n: int) -> Case:
    K, labels = (1 + theta**2) * np.eye(n) + theta * (np.eye(n, k=1) + np.eye(n, k=-1)), np.ones(n)
    return Case(K, labels, log_orthant_ma1(theta, labels))


def _differences(n: int) -> Case:
    """First differences of white noise: P is that of one order of n + 1 numbers."""
    return Case(2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1), np.ones(n), -math.lgamma(n + 2))


def _brownian(n: int) -> Case:
    """Sums of n increments: a symmetric random walk is positive n times with probability C(2n, n)/4ⁿ."""
    i = np.arange(1.0, n + 1)
    truth = math.lgamma(2 * n + 1) - 2 * math.lgamma(n + 1) - n * math.log(4)
    return Case(np.minimum(i[:, None], i), np.ones(n), truth)


def _distances(side: int) -> Float[np.ndarray, "n n"]:
    places = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), axis=-1).reshape(-1, 2)
    return np.sqrt(np.square(places[:, None] - places).sum(axis=-1))


def _smooth(side: int) -> Case:
    """exp(-0.1 d²) on a grid: singular to rounding."""
    return Case(np.exp(-0.1 * _distances(side) ** 2), np.ones(side**2), None)


def _matern(side: int, length: float, first: int | None = None) -> Case:
    """Matérn-3/2 on the unit square, nugget 0.01, of the first points in the order of rows."""
    d = math.sqrt(3) * _distances(side)[:first, :first] / (side - 1) / length
    return Case((1 + d) * np.exp(-d) + 0.01 * np.eye(len(d)), -np.ones(len(d)), None)


_RANDOM = np.sign(np.random.default_rng(0).standard_normal(200))
_BLOCKS = np.where(np.arange(200) // 20 % 2, -1.0, 1.0)
SKEWED: dict[str, Callable[[], Case]] = {
    "exp(-0.1 d²) on 20 × 20, all positive": lambda: _smooth(20),
    "exp(-0.1 d²) on 12 × 12, all positive": lambda: _smooth(12),
    "two factors + 0.3, 5 % odd, n = 200": lambda: _factors(2, 0.3, 10),
    "two factors + 0.01, one odd, n = 200": lambda: _factors(2, 0.01, 1),
    "two factors + 0.01, 1 % odd, n = 200": lambda: _factors(2, 0.01, 2),
    "two factors + 0.001, 2 % odd, n = 200": lambda: _factors(2, 0.001, 4),
    "three factors + 0.1, 2 % odd, n = 200": lambda: _factors(3, 0.1, 4),
    "three factors + 0.01, 1 % odd, n = 200": lambda: _factors(3, 0.01, 2),
    "three factors + 0.01, 10 % odd, n = 200": lambda: _factors(3, 0.01, 20),
    "three factors + 0.001, 5 % odd, n = 200": lambda: _factors(3, 0.001, 10),
    "two factors + 0.3, one odd, n = 200": lambda: _factors(2, 0.3, 1),
    "two factors + 0.1, 1 % odd, n = 200": lambda: _factors(2, 0.1, 2),
    "two factors + 0.001, one odd, n = 200": lambda: _factors(2, 0.001, 1),
    "three factors + 0.3, 5 % odd, n = 200": lambda: _factors(3, 0.3, 10),
    "three factors + 0.001, 1 % odd, n = 200": lambda: _factors(3, 0.001, 2),
    "AR(1) 0.9, all positive, n = 200": lambda: _ar1(0.9, np.ones(200)),
    "AR(1) 0.99, blocks of 20, n = 200": lambda: _ar1(0.99, _BLOCKS),
    "AR(1) 0.5, random labels, n = 200": lambda: _ar1(0.5, _RANDOM),
    "AR(1) -0.7, all positive, n = 200": lambda: _ar1(-0.7, np.ones(200)),
    "Brownian motion, all positive, n = 200": lambda: _brownian(200),
    "MA(1) 0.8, all positive, n = 300": lambda: _ma1(0.8, 300),
    "MA(1) -0.8, all positive, n = 300": lambda: _ma1(-0.8, 300),
    "Matérn, length 0.1, 20 × 20, all negative": lambda: _matern(20, 0.1),
    "Matérn, length 0.173, 900 of 31 × 31, all negative": lambda: _matern(31, 0.1 * math.sqrt(3), 900),
    "Matérn, length 0.3, 15 × 15, all negative": lambda: _matern(15, 0.3),
    "differences of noise, all positive, n = 30": lambda: _differences(30),
    "differences of noise, all positive, n = 100": lambda: _differences(100),
}
