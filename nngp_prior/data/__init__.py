"""Data sets and labellings."""

from nngp_prior.data.datasets import Data, load, load_file
from nngp_prior.data.labellings import corrupted, label

__all__ = ["Data", "corrupted", "label", "load", "load_file"]
