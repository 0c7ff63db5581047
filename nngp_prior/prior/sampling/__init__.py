"""Sampling from the prior: draws of finite networks, or of the Gaussian process, counted by function."""

from __future__ import annotations

from nngp_prior.prior.sampling.counts import FunctionCounts, RankedFunction
from nngp_prior.prior.sampling.sample import sample_functions

__all__ = ["FunctionCounts", "RankedFunction", "sample_functions"]


def __dir__() -> list[str]:
    return sorted(__all__)
