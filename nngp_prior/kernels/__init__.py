"""Kernel matrices of architectures on data."""

from nngp_prior.kernels.analytic import check_inputs, kernel
from nngp_prior.kernels.finite import shaped_inputs
from nngp_prior.kernels.monte_carlo import MonteCarloKernel, monte_carlo_kernel

__all__ = ["MonteCarloKernel", "check_inputs", "kernel", "monte_carlo_kernel", "shaped_inputs"]
