"""Which matrices a measure is of, what its figures are called, and what they have in common."""

from __future__ import annotations

from typing import Any

from nngp_prior.schemas.measures.curvature import EACH, Matrix
from nngp_prior.sharpness.curvature.operators import Operator, operator_of
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk

_PREFIXES: dict[Matrix, str] = {"hessian": "", "ggn": "ggn_", "empirical-fisher": "empirical_fisher_"}


def layers_asked(risk: EmpiricalRisk, layer: str | None) -> list[str | None]:
    """The layers that an option names.

    Args:
        risk: whose layers.
        layer: a name, ``each``, or None for the whole network.

    Returns:
        names, or None alone.
    """
    return list(risk.network.layers) if layer == EACH else [layer]


def operators(risk: EmpiricalRisk, specification: Any) -> list[tuple[str, Operator]]:
    """The matrices that a measure is taken of.

    Args:
        risk: at the parameters at hand.
        specification: with the fields ``matrix`` and ``layer``.

    Returns:
        for each, a pattern of its figures' names with ``{}`` for the figure, and the matrix.
    """
    prefix, whole = _PREFIXES[specification.matrix], operator_of(risk, specification.matrix)
    return [
        (prefix + "{}" + of_layer(layer), whole if layer is None else whole.block(layer))
        for layer in layers_asked(risk, specification.layer)
    ]


def of_layer(layer: str | None) -> str:
    """What follows the name of a figure: nothing, or the layer in brackets."""
    return "" if layer is None else f"[{layer}]"


def check_layer(risk: EmpiricalRisk, specification: Any) -> None:
    """Refuse a layer that is not there.

    Args:
        risk: whose layers.
        specification: with the field ``layer``.
    """
    for layer in layers_asked(risk, specification.layer):
        if layer is not None:
            risk.network.slice_of(layer)
