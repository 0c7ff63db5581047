"""Convex quadratics: f = Σ W ∘ x + b with 3 × 2 weights and one bias, and the squared error."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nngp_prior import FromNetwork
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from tests.sharpness.cases import data


def _init(key: jax.Array, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[jax.Array, jax.Array]]:
    del key
    return shape, (jnp.zeros((3, 2)), jnp.zeros(1))


def _apply(parameters: tuple[jax.Array, jax.Array], X: jax.Array) -> jax.Array:
    W, b = parameters
    return X @ W.ravel() + b


LINEAR = FromNetwork(_init, _apply, name="linear")


def linear(n: int = 8, loss: str = "mse", dtype: str = "float64", chunk: int | None = 3) -> EmpiricalRisk:
    theta = np.random.default_rng(5).standard_normal(7)
    return EmpiricalRisk.of(
        LINEAR, (theta[:6].reshape(3, 2), theta[6:]), *data(n, 6), loss=loss, dtype=dtype, chunk=chunk
    )


class Quadratic(NamedTuple):
    """L(θ + z) = L + g z + zᵀ H z / 2, in closed form."""

    L: float
    g: np.ndarray
    H: np.ndarray

    def __call__(self, z: np.ndarray) -> float:
        return float(self.L + self.g @ z + z @ self.H @ z / 2)

    def slope(self, z: np.ndarray) -> np.ndarray:
        return self.g + self.H @ z


def quadratic(risk: EmpiricalRisk, rows: np.ndarray | slice = slice(None)) -> Quadratic:
    """Of a linear risk, or of some of its examples."""
    X, y, theta = np.asarray(risk.X)[rows], np.asarray(risk.y)[rows], np.asarray(risk.theta)
    inputs = np.column_stack([X, np.ones(len(X))])
    residual = inputs @ theta - y
    return Quadratic(np.mean(residual**2), 2 * inputs.T @ residual / len(X), 2 * inputs.T @ inputs / len(X))


def highest_in_box(function: Quadratic, widths: np.ndarray, A: np.ndarray | None = None) -> float:
    """A convex function is highest at a corner."""
    corners = np.array(np.meshgrid(*[[-1, 1]] * len(widths))).reshape(len(widths), -1).T * widths
    return max(function(corner if A is None else A @ corner) for corner in corners)


def highest_in_ball(function: Quadratic, T: np.ndarray, rho: float) -> float:
    """The trust-region risk for z = T u, ‖u‖ ≤ ρ: (λ - T H T) u = T g with ‖u‖ = ρ and λ > λ_max."""
    values, Q = np.linalg.eigh(T[:, None] * function.H * T)
    g = Q.T @ (T * function.g)
    low, high = values[-1], values[-1] + np.linalg.norm(g) / rho
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.linalg.norm(g / (middle - values)) > rho else (low, middle)
    return function(T * (Q @ (g / (high - values))))
