"""Flatness of trained networks: measures, training and loss landscapes, in JAX and without large matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nngp_prior.lazy import attributes
from nngp_prior.schemas.measures.curvature import (
    Eigenvalues,
    FisherRaoNorm,
    FisherTrace,
    Frobenius,
    LogDeterminant,
    SpectralDensity,
    Trace,
)
from nngp_prior.schemas.measures.gradients import (
    ContrastRegret,
    GradientContrast,
    GradientDiversity,
    GradientNoiseScale,
    GradientStiffness,
    NaturalContrastRegret,
    NaturalGradientContrast,
)
from nngp_prior.schemas.measures.layerwise import (
    MinimumSharpness,
    RelativeFlatness,
    ScaledEigenvalue,
    WeightCurvatureIndex,
)
from nngp_prior.schemas.measures.neighbourhoods import ASAMSharpness, FisherSAMSharpness, Keskar, PACBayes, SAMSharpness
from nngp_prior.schemas.measures.registry import ContrastiveFlatness
from nngp_prior.schemas.specs.landscape import Landscape
from nngp_prior.schemas.specs.training import SAM, SGD, Adam, EntropySGD, FlatnessPenalty, Momentum, Training

if TYPE_CHECKING:
    from nngp_prior.sharpness.curvature.operators import as_scipy, empirical_fisher, ggn, hessian
    from nngp_prior.sharpness.loss_landscape import landscape
    from nngp_prior.sharpness.measurement import measure, measure_networks
    from nngp_prior.sharpness.measures.spectrum import spectral_density
    from nngp_prior.sharpness.rescaling import hidden_layers, rescale, rescale_nodes
    from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
    from nngp_prior.sharpness.risk.networks import FiniteNetwork, finite_network
    from nngp_prior.sharpness.surface import Surface
    from nngp_prior.sharpness.training.train import attack_set, train
    from nngp_prior.sharpness.training.trained import Trained
    from nngp_prior.sharpness.training.trained_functions import function_probability, functions_of

__all__ = [
    "SAM",
    "SGD",
    "ASAMSharpness",
    "Adam",
    "ContrastRegret",
    "ContrastiveFlatness",
    "Eigenvalues",
    "EmpiricalRisk",
    "EntropySGD",
    "FiniteNetwork",
    "FisherRaoNorm",
    "FisherSAMSharpness",
    "FisherTrace",
    "FlatnessPenalty",
    "Frobenius",
    "GradientContrast",
    "GradientDiversity",
    "GradientNoiseScale",
    "GradientStiffness",
    "Keskar",
    "Landscape",
    "LogDeterminant",
    "MinimumSharpness",
    "Momentum",
    "NaturalContrastRegret",
    "NaturalGradientContrast",
    "PACBayes",
    "RelativeFlatness",
    "SAMSharpness",
    "ScaledEigenvalue",
    "SpectralDensity",
    "Surface",
    "Trace",
    "Trained",
    "Training",
    "WeightCurvatureIndex",
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
    "measure_networks",
    "rescale",
    "rescale_nodes",
    "spectral_density",
    "train",
]

# These load JAX.
__getattr__, __dir__ = attributes(
    __name__,
    {
        **dict.fromkeys(("as_scipy", "empirical_fisher", "ggn", "hessian"), "nngp_prior.sharpness.curvature.operators"),
        **dict.fromkeys(("hidden_layers", "rescale", "rescale_nodes"), "nngp_prior.sharpness.rescaling"),
        **dict.fromkeys(("attack_set", "train"), "nngp_prior.sharpness.training.train"),
        **dict.fromkeys(("function_probability", "functions_of"), "nngp_prior.sharpness.training.trained_functions"),
        "Surface": "nngp_prior.sharpness.surface",
        "landscape": "nngp_prior.sharpness.loss_landscape",
        "FiniteNetwork": "nngp_prior.sharpness.risk.networks",
        "EmpiricalRisk": "nngp_prior.sharpness.risk.empirical_risk",
        "Trained": "nngp_prior.sharpness.training.trained",
        "finite_network": "nngp_prior.sharpness.risk.networks",
        **dict.fromkeys(("measure", "measure_networks"), "nngp_prior.sharpness.measurement"),
        "spectral_density": "nngp_prior.sharpness.measures.spectrum",
    },
    __all__,
)
