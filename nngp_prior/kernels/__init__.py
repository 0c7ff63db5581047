"""Kernel matrices of architectures on data."""

from nngp_prior.kernels.analytic import check_inputs, kernel

__all__ = ["check_inputs", "kernel"]
