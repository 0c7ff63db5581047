"""All measures, by name."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field

from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.base import OrNamed, Specification
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
    MinibatchFlatness,
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

_OfOneLoss = (
    Eigenvalues
    | Trace
    | Frobenius
    | LogDeterminant
    | SpectralDensity
    | FisherTrace
    | FisherRaoNorm
    | RelativeFlatness
    | MinimumSharpness
    | WeightCurvatureIndex
    | ScaledEigenvalue
    | Keskar
    | SAMSharpness
    | ASAMSharpness
    | FisherSAMSharpness
    | PACBayes
    | GradientContrast
    | ContrastRegret
    | NaturalGradientContrast
    | NaturalContrastRegret
    | GradientStiffness
    | GradientDiversity
    | GradientNoiseScale
)


class ContrastiveFlatness(MinibatchFlatness):
    """Difference and ratio of the mean of S(L_b) over minibatches b and S(L), with another measure S and mean loss L.

    Attributes:
        of: S, with its options, or its name; if it has several quantities, each is used. Random vectors of S are the
            same for all minibatches.
    """

    kind: Literal["contrastive-flatness"] = "contrastive-flatness"
    of: Annotated[
        _OfOneLoss,
        Field(discriminator="kind"),
        BeforeValidator(lambda of: {"kind": of} if isinstance(of, str) else of),
        OrNamed(tuple(model.model_fields["kind"].default for model in get_args(_OfOneLoss))),
    ] = Eigenvalues(smallest=0)


Measure = Annotated[_OfOneLoss | ContrastiveFlatness, Field(discriminator="kind")]
MEASURES_BY_KIND: dict[str, type[Specification]] = {
    model.model_fields["kind"].default: model for model in get_args(get_args(Measure)[0])
}
DEFAULT = ("eigenvalues", "trace", "frobenius", "fisher-rao-norm")


def measure_of(kind: str, **options: Any) -> Measure:
    """Return the specification of a measure from its name.

    Args:
        kind: ``eigenvalues``, ``trace``, …
        **options: fields of the measure.

    Returns:
        the validated specification.

    Raises:
        InvalidInput: if the measure or a field is unknown, or a value is out of range.
    """
    if kind not in MEASURES_BY_KIND:
        near = get_close_matches(kind, MEASURES_BY_KIND, n=2)
        meant = f"Did you mean {' or '.join(near)}? There are {', '.join(MEASURES_BY_KIND)}."
        remedy = meant if near else f"Choose from {', '.join(MEASURES_BY_KIND)}."
        raise InvalidInput("measures", f"got {kind!r}", remedy)
    return MEASURES_BY_KIND[kind](**options)  # pyright: ignore[reportReturnType]
