"""Flatness of trained networks: what they are measured by, in JAX, matrix-free."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nngp_prior.lazy import attributes

if TYPE_CHECKING:
    from nngp_prior.sharpness.measuring import measure
    from nngp_prior.sharpness.networks import FiniteNetwork, finite_network
    from nngp_prior.sharpness.problem import Problem
    from nngp_prior.sharpness.spectrum import spectral_density

__all__ = ["FiniteNetwork", "Problem", "finite_network", "measure", "spectral_density"]

# Loads JAX.
__getattr__ = attributes(
    __name__,
    {
        "FiniteNetwork": "nngp_prior.sharpness.networks",
        "Problem": "nngp_prior.sharpness.problem",
        "finite_network": "nngp_prior.sharpness.networks",
        "measure": "nngp_prior.sharpness.measuring",
        "spectral_density": "nngp_prior.sharpness.spectrum",
    },
)
