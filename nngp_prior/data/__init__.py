"""Data sets and labellings."""

from nngp_prior.data.datasets import load
from nngp_prior.data.labellings import label

__all__ = ["label", "load"]
