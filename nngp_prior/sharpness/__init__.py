"""Flatness of trained networks: what they are measured by, in JAX, matrix-free."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nngp_prior.lazy import attributes

if TYPE_CHECKING:
    from nngp_prior.schemas.landscape import Landscape
    from nngp_prior.schemas.training import SAM, SGD, Adam, EntropySGD, FlatnessPenalty, Momentum, Training
    from nngp_prior.sharpness.measuring import measure
    from nngp_prior.sharpness.networks import FiniteNetwork, finite_network
    from nngp_prior.sharpness.problem import Problem
    from nngp_prior.sharpness.rescaling import hidden_layers, rescale, rescale_nodes
    from nngp_prior.sharpness.spectrum import spectral_density
    from nngp_prior.sharpness.surface import Surface, landscape
    from nngp_prior.sharpness.trained import Trained
    from nngp_prior.sharpness.trained_data import function_probability, functions_of
    from nngp_prior.sharpness.training import attack_set, train

__all__ = [
    "SAM",
    "SGD",
    "Adam",
    "EntropySGD",
    "FiniteNetwork",
    "FlatnessPenalty",
    "Landscape",
    "Momentum",
    "Problem",
    "Surface",
    "Trained",
    "Training",
    "attack_set",
    "finite_network",
    "function_probability",
    "functions_of",
    "hidden_layers",
    "landscape",
    "measure",
    "rescale",
    "rescale_nodes",
    "spectral_density",
    "train",
]

# Loads JAX, but for specifications.
__getattr__, __dir__ = attributes(
    __name__,
    {
        **dict.fromkeys(
            ("SAM", "SGD", "Adam", "EntropySGD", "FlatnessPenalty", "Momentum", "Training"),
            "nngp_prior.schemas.training",
        ),
        **dict.fromkeys(("hidden_layers", "rescale", "rescale_nodes"), "nngp_prior.sharpness.rescaling"),
        **dict.fromkeys(("attack_set", "train"), "nngp_prior.sharpness.training"),
        **dict.fromkeys(("function_probability", "functions_of"), "nngp_prior.sharpness.trained_data"),
        **dict.fromkeys(("Surface", "landscape"), "nngp_prior.sharpness.surface"),
        "Landscape": "nngp_prior.schemas.landscape",
        "FiniteNetwork": "nngp_prior.sharpness.networks",
        "Problem": "nngp_prior.sharpness.problem",
        "Trained": "nngp_prior.sharpness.trained",
        "finite_network": "nngp_prior.sharpness.networks",
        "measure": "nngp_prior.sharpness.measuring",
        "spectral_density": "nngp_prior.sharpness.spectrum",
    },
    __all__,
)
