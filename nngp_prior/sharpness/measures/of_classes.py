"""Measures of networks with C outputs."""

from __future__ import annotations

from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.measures.curvature import (
    Eigenvalues,
    FisherRaoNorm,
    FisherTrace,
    Frobenius,
    LogDeterminant,
    SpectralDensity,
    Trace,
)
from nngp_prior.schemas.measures.gradients import ContrastRegret, GradientContrast
from nngp_prior.schemas.measures.neighbourhoods import ASAMSharpness, FisherSAMSharpness, Keskar, PACBayes, SAMSharpness
from nngp_prior.schemas.measures.registry import ContrastiveFlatness, Measure
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk

# Functions of the loss or the error alone, and of products with H, G and F. The others are formulas for one output.
OF_CLASSES = (
    *(Eigenvalues, Trace, Frobenius, LogDeterminant, SpectralDensity, FisherTrace, FisherRaoNorm),
    *(Keskar, SAMSharpness, ASAMSharpness, FisherSAMSharpness, PACBayes),
    *(GradientContrast, ContrastRegret, ContrastiveFlatness),
)
_INSTEAD = {
    "relative-flatness": "asam-sharpness with eta=0 and biases=True is invariant under rescaling too",
    "natural-gradient-contrast": "use gradient-contrast",
    "natural-contrast-regret": "use contrast-regret",
    "scaled-eigenvalue": "use eigenvalues",
    "minimum-sharpness": "use trace with layer='each'",
    "weight-curvature-index": "use trace with layer='each'",
}


def check_outputs(risk: EmpiricalRisk, specification: Measure) -> None:
    """Raise an error if a measure is of networks with one output and the network has C.

    Args:
        risk: network, loss and data.
        specification: specification of the measure.

    Raises:
        InvalidInput: in that case.
    """
    if risk.classes is None:
        return
    if isinstance(specification, ContrastiveFlatness):
        check_outputs(risk, specification.of)
    elif not isinstance(specification, OF_CLASSES):
        instead = _INSTEAD.get(specification.kind, "use gradient-contrast")
        problem = f"{specification.kind!r} is of networks with one output, and there are {risk.classes}"
        raise InvalidInput("measures", problem, f"Leave it out: {instead}.")
