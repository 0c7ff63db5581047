"""Matrices of a measure, names of its quantities, and checks of its options."""

from __future__ import annotations

from typing import Any

from nngp_prior.schemas.measures.curvature import EACH, Matrix
from nngp_prior.sharpness.curvature.operators import Operator, operator_of
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk

_PREFIXES: dict[Matrix, str] = {"hessian": "", "ggn": "ggn_", "empirical-fisher": "empirical_fisher_"}


def layers_asked(risk: EmpiricalRisk, layer: str | None) -> list[str | None]:
    """Return the layers selected by an option.

    Args:
        risk: risk of the network with these layers.
        layer: a name, ``each``, or None for the whole network.

    Returns:
        layer names, or a single None.
    """
    return list(risk.network.layers) if layer == EACH else [layer]


def operators(risk: EmpiricalRisk, specification: Any) -> list[tuple[str, Operator]]:
    """Return the matrices of a measure.

    Args:
        risk: risk at the parameters of the measurement.
        specification: specification with the fields ``matrix`` and ``layer``.

    Returns:
        for each matrix, a pattern for the names of its quantities with ``{}`` for the quantity, and the matrix.
    """
    prefix, whole = _PREFIXES[specification.matrix], operator_of(risk, specification.matrix)
    return [
        (prefix + "{}" + of_layer(layer), whole if layer is None else whole.block(layer))
        for layer in layers_asked(risk, specification.layer)
    ]


def of_layer(layer: str | None) -> str:
    """Suffix of a quantity's name: empty, or the layer in brackets."""
    return "" if layer is None else f"[{layer}]"


def check_layer(risk: EmpiricalRisk, specification: Any) -> None:
    """Raise an error if a layer does not exist.

    Args:
        risk: risk of the network with these layers.
        specification: specification with the field ``layer``.
    """
    for layer in layers_asked(risk, specification.layer):
        if layer is not None:
            risk.network.slice_of(layer)
