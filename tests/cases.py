"""Kernels and labellings that the tests share, and those whose answer is known."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nngp_prior.data import label, load
from nngp_prior.kernels import kernel
from nngp_prior.probability.closed_form import log_orthant_product
from nngp_prior.schemas.specs.architecture import FullyConnected
from nngp_prior.schemas.specs.data import Constant, Digits, Flip, Labelling, Mnist, Threshold


def equicorrelated(n: int, rho: float) -> np.ndarray:
    return np.full((n, n), rho) + (1 - rho) * np.eye(n)


def product_loadings(n: int) -> np.ndarray:
    """Random ones, all positive: constant labels are the simple, and hard, case."""
    return np.random.default_rng(n).uniform(0.1, 0.99, n)


def product_correlated(n: int) -> np.ndarray:
    loadings = product_loadings(n)
    K = np.outer(loadings, loadings)
    np.fill_diagonal(K, 1.0)
    return K


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
    K, classes = _kernel_and_classes(Digits(n=n), depth)
    return K.copy(), label(labelling, classes)


def mnist(n: int, labelling: Labelling, depth: int = 2) -> tuple[np.ndarray, np.ndarray]:
    K, classes = _kernel_and_classes(Mnist(n=n), depth)
    return K.copy(), label(labelling, classes)


@functools.lru_cache(maxsize=32)
def _kernel_and_classes(dataset: Digits | Mnist, depth: int) -> tuple[np.ndarray, np.ndarray]:
    data = load(dataset)
    return kernel(FullyConnected(depth=depth), data.X), data.classes


class Case(NamedTuple):
    """A problem for the error bar; ``truth`` is None where it takes a long run."""

    K: np.ndarray
    labels: np.ndarray
    truth: float | None


def _equicorrelated_case(n: int, rho: float, kind: str) -> Case:
    labels = equicorrelated_labels(n, kind)
    return Case(equicorrelated(n, rho), labels, equicorrelated_truth(rho, labels))


def _product_case(n: int) -> Case:
    return Case(product_correlated(n), np.ones(n, dtype=int), log_orthant_product(product_loadings(n)))


_ONE_FLIPPED = Constant(corruption=Flip(count=1))
CALIBRATION: dict[str, Callable[[], Case]] = {
    "equicorrelated 0.8, all positive, n = 200": lambda: _equicorrelated_case(200, 0.8, "positive"),
    "equicorrelated 0.5, all positive, n = 400": lambda: _equicorrelated_case(400, 0.5, "positive"),
    "equicorrelated 0.95, mixed, n = 100": lambda: _equicorrelated_case(100, 0.95, "mixed"),
    "product correlation, all positive, n = 300": lambda: _product_case(300),
    "MNIST constant, n = 300": lambda: Case(*mnist(300, Constant()), None),
    "digits 0-4 against 5-9, n = 300": lambda: Case(*digits(300, Threshold(at=5)), None),
    "MNIST constant, depth 10, n = 300": lambda: Case(*mnist(300, Constant(), depth=10), None),
    "MNIST constant but one flipped, n = 300": lambda: Case(*mnist(300, _ONE_FLIPPED), None),
}
