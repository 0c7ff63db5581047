"""Kernels and labellings that the parts share: MNIST, or digits where ``NNGP_DATA`` is not set."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from nngp_prior import FullyConnected, kernel
from nngp_prior.data import label, load
from nngp_prior.data.datasets import Data
from nngp_prior.schemas.specs.data import Constant, Digits, FashionMnist, Labelling, Mnist, RandomLabels, Threshold
from nngp_prior.settings import Settings

ARCHITECTURE = FullyConnected(depth=2)
LABELLINGS: dict[str, Labelling] = {
    "threshold:5": Threshold(at=5),
    "constant": Constant(),
    "random": RandomLabels(seed=1),
}
DATASETS = {"mnist": Mnist, "fashion-mnist": FashionMnist, "digits": Digits}
_DIGITS = 1437  # training images


class Problem(NamedTuple):
    """A kernel matrix and labellings of its inputs.

    Attributes:
        n: number of inputs.
        K: the kernel over the mean of its diagonal. log P does not change, and peers whose tolerances are absolute
            get the variances near 1 that they are made for.
        labels: -1 and +1, by name.
    """

    n: int
    K: np.ndarray
    labels: dict[str, np.ndarray]


def source() -> str:
    """The data set in use."""
    return "mnist" if Settings().data else "digits"


def datasets() -> list[str]:
    """All that there are."""
    return list(DATASETS) if Settings().data else ["digits"]


def inputs(n: int) -> Data:
    """The first n of a random order of the training images."""
    return load(DATASETS[source()](n=n))


@lru_cache(maxsize=2)
def problem(n: int) -> Problem:
    """The kernel of a fully connected network with two hidden layers on n images, and three labellings."""
    data = inputs(n)
    K = kernel(ARCHITECTURE, data.X)
    labels = {name: label(labelling, data.classes) for name, labelling in LABELLINGS.items()}
    return Problem(n, K / K.diagonal().mean(), labels)


def sizes(*wanted: int) -> list[int]:
    """Those of the numbers of inputs that the data set has."""
    return [n for n in wanted if source() == "mnist" or n <= _DIGITS]


def data_note(*wanted: int) -> str:
    """Which data the figures are of, and what was left out."""
    left_out = [f"{n:,}" for n in wanted if n not in sizes(*wanted)]
    note = f"{source()}, {ARCHITECTURE.activation} network with {ARCHITECTURE.depth} hidden layers"
    if source() == "digits":
        note += "; NNGP_DATA is not set, hence scikit-learn's digits instead of MNIST"
    return note + (f", and n = {', '.join(left_out)} left out" if left_out else "")
