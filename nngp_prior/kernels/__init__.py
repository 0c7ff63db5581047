"""Kernel matrices of architectures on data."""

from nngp_prior.kernels.analytic import kernel

__all__ = ["kernel"]
