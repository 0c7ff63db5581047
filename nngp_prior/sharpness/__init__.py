"""Flatness of trained networks: what they are measured by, in JAX, matrix-free."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nngp_prior.lazy import attributes

if TYPE_CHECKING:
    from nngp_prior.schemas.landscape import Landscape
    from nngp_prior.schemas.training import SAM, SGD, Adam, EntropySGD, FlatnessPenalty, Momentum, Training
    from nngp_prior.sharpness.curvature.operators import as_scipy, empirical_fisher, ggn, hessian
    from nngp_prior.sharpness.loss_landscape import Surface, landscape
    from nngp_prior.sharpness.measurement import measure
    from nngp_prior.sharpness.measures.spectrum import spectral_density
    from nngp_prior.sharpness.rescaling import hidden_layers, rescale, rescale_nodes
    from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
    from nngp_prior.sharpness.risk.networks import FiniteNetwork, finite_network
    from nngp_prior.sharpness.training.train import attack_set, train
    from nngp_prior.sharpness.training.trained import Trained
    from nngp_prior.sharpness.training.trained_functions import function_probability, functions_of

__all__ = [
    "SAM",
    "SGD",
    "Adam",
    "EmpiricalRisk",
    "EntropySGD",
    "FiniteNetwork",
    "FlatnessPenalty",
    "Landscape",
    "Momentum",
    "Surface",
    "Trained",
    "Training",
    "as_scipy",
    "attack_set",
    "empirical_fisher",
    "finite_network",
    "function_probability",
    "functions_of",
    "ggn",
    "hessian",
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
        **dict.fromkeys(("as_scipy", "empirical_fisher", "ggn", "hessian"), "nngp_prior.sharpness.curvature.operators"),
        **dict.fromkeys(("hidden_layers", "rescale", "rescale_nodes"), "nngp_prior.sharpness.rescaling"),
        **dict.fromkeys(("attack_set", "train"), "nngp_prior.sharpness.training.train"),
        **dict.fromkeys(("function_probability", "functions_of"), "nngp_prior.sharpness.training.trained_functions"),
        **dict.fromkeys(("Surface", "landscape"), "nngp_prior.sharpness.loss_landscape"),
        "Landscape": "nngp_prior.schemas.landscape",
        "FiniteNetwork": "nngp_prior.sharpness.risk.networks",
        "EmpiricalRisk": "nngp_prior.sharpness.risk.empirical_risk",
        "Trained": "nngp_prior.sharpness.training.trained",
        "finite_network": "nngp_prior.sharpness.risk.networks",
        "measure": "nngp_prior.sharpness.measurement",
        "spectral_density": "nngp_prior.sharpness.measures.spectrum",
    },
    __all__,
)
