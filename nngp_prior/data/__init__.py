"""Data sets and labellings: their specifications, and functions that load them."""

from nngp_prior.data.datasets import Data, hash_of_large, load, load_file, outline
from nngp_prior.data.labellings import corrupted, label, own_labels
from nngp_prior.data.own_files import read_labels
from nngp_prior.schemas.specs.data import (
    BlobData,
    BlobLabellings,
    Boolean,
    Cifar10,
    Classes,
    Constant,
    Digits,
    Explicit,
    FashionMnist,
    Flip,
    Inline,
    Mnist,
    OneVsRest,
    Parity,
    Randomise,
    RandomLabels,
    Threshold,
    TrainingData,
    TwoClasses,
)

__all__ = [
    "BlobData",
    "BlobLabellings",
    "Boolean",
    "Cifar10",
    "Classes",
    "Constant",
    "Data",
    "Digits",
    "Explicit",
    "FashionMnist",
    "Flip",
    "Inline",
    "Mnist",
    "OneVsRest",
    "Parity",
    "RandomLabels",
    "Randomise",
    "Threshold",
    "TrainingData",
    "TwoClasses",
    "corrupted",
    "hash_of_large",
    "label",
    "load",
    "load_file",
    "outline",
    "own_labels",
    "read_labels",
]


def __dir__() -> list[str]:
    return sorted(__all__)
