"""Titles of figures: data, number of inputs, network and bounds; never names of files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nngp_prior.schemas.specs.architecture import Architecture

_DATA = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "cifar10": "CIFAR-10", "boolean": "Boolean inputs"}

BOUNDS: dict[str, str] = {
    "realizable": "realizable",
    "maurer": "Maurer (2004)",
    "langford-seeger": "Langford, Seeger (2001)",
    "valle-perez-camargo-louis": "Valle-Pérez et al. (2018)",
    "mcallester": "McAllester (1999)",
    "valle-perez-louis": "Valle-Pérez, Louis (2020)",
}
"""Names of bounds."""


def network(architecture: Architecture | Mapping[str, Any]) -> str:
    """Name an architecture.

    Args:
        architecture: specification, or its JSON.

    Returns:
        kind, depth and nonlinearity.
    """
    of = architecture if isinstance(architecture, Mapping) else architecture.model_dump(mode="json")
    depth = {
        "fully-connected": lambda: f"depth {of['depth']}",
        "convolutional": lambda: f"{len(of['layers'])} layers, {of['readout']}",
        "residual": lambda: f"{of['groups']} × {of['blocks']} blocks",
    }[of["kind"]]()
    return f"{of['kind']}, {depth}, {of['activation']}"


def data(dataset: Mapping[str, Any] | None, split: bool = True) -> str:
    """Name a data set.

    Args:
        dataset: specification as JSON; None for inputs from a file.
        split: True to name the split.

    Returns:
        its name.
    """
    if dataset is None or dataset["kind"] not in {"digits", *_DATA}:
        return "inputs"
    kind, part = str(dataset["kind"]), dataset.get("split")
    return _DATA.get(kind, kind) + (f" ({part} split)" if split and part else "")
