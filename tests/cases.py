"""Kernels and labellings that the tests share, and those whose answer is known."""

import math

import numpy as np

from nngp_prior.data import label, load
from nngp_prior.kernels import kernel
from nngp_prior.probability.closed_form import log_orthant_product
from nngp_prior.schemas.architecture import FullyConnected
from nngp_prior.schemas.data import Digits, Labelling, Mnist


def equicorrelated(n: int, rho: float) -> np.ndarray:
    return np.full((n, n), rho) + (1 - rho) * np.eye(n)


def equicorrelated_labels(n: int, kind: str) -> np.ndarray:
    """All positive; every third negative; fair coins."""
    if kind == "positive":
        return np.ones(n, dtype=int)
    if kind == "mixed":
        return np.where(np.arange(n) % 3 == 2, -1, 1)
    return np.random.default_rng(n).choice([-1, 1], n)


def equicorrelated_truth(rho: float, labels: np.ndarray) -> float:
    return log_orthant_product(math.sqrt(rho) * labels.astype(float))


def digits(n: int, labelling: Labelling, depth: int = 2) -> tuple[np.ndarray, np.ndarray]:
    data = load(Digits(n=n))
    return kernel(FullyConnected(depth=depth), data.X), label(labelling, data.classes)


def mnist(n: int, labelling: Labelling, depth: int = 2) -> tuple[np.ndarray, np.ndarray]:
    data = load(Mnist(n=n))
    return kernel(FullyConnected(depth=depth), data.X), label(labelling, data.classes)
