"""Data sets and labellings."""

from nngp_prior.data.datasets import Data, hash_of_large, load, load_file, outline
from nngp_prior.data.labellings import corrupted, label, own_labels
from nngp_prior.data.own_files import read_labels

__all__ = [
    "Data",
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
