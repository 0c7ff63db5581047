"""Kernel matrices of architectures on data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nngp_prior.kernels.analytic import kernel, kernel_diagonal
from nngp_prior.kernels.cache import KernelCache
from nngp_prior.kernels.cost import kernel_cost
from nngp_prior.kernels.inspection import inspect
from nngp_prior.kernels.job import KernelJob
from nngp_prior.lazy import attributes

if TYPE_CHECKING:
    from nngp_prior.kernels.monte_carlo import MonteCarloKernel, monte_carlo_kernel

__all__ = [
    "KernelCache",
    "KernelJob",
    "MonteCarloKernel",
    "inspect",
    "kernel",
    "kernel_cost",
    "kernel_diagonal",
    "monte_carlo_kernel",
]

# Loads JAX.
__getattr__, __dir__ = attributes(
    __name__, dict.fromkeys(("MonteCarloKernel", "monte_carlo_kernel"), "nngp_prior.kernels.monte_carlo"), __all__
)
