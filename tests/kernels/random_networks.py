"""Inputs, a user's network, and deviations of Monte Carlo kernels from analytic ones."""

from typing import Any

import jax
import numpy as np
from scipy.stats import t as student

from nngp_prior import FromNetwork, MonteCarloKernel
from nngp_prior.schemas.specs.architecture import Architecture, FullyConnected
from tests.kernels.reference import of_neural_tangents

IMAGES = np.random.default_rng(0).standard_normal((4, 4, 4))
VECTORS = IMAGES.reshape(4, 16)
LOWER = np.tril_indices(4)


def analytic(architecture: Architecture) -> np.ndarray:
    X = VECTORS if isinstance(architecture, FullyConnected) else IMAGES[..., None]
    return of_neural_tangents(architecture, X)


def largest_z(found: MonteCarloKernel, K: np.ndarray) -> float:
    """The largest deviation in standard errors, over what one entry in 20,000 exceeds (4 s.e. of a normal variable)."""
    z = np.abs(found.K - K)[LOWER] / found.stderr[LOWER]
    return float(z.max() / student.ppf(1 - 0.5 / 20_000, len(found.sums) - 1))


def init(key: Any, shape: tuple[int, ...]) -> tuple[None, Any]:
    return None, jax.random.normal(key, (shape[-1],))


LINEAR = FromNetwork(init, lambda w, X: X @ w, name="linear")  # with 16 weights
