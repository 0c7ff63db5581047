"""Words of figures and reports: data, number of inputs, network, bounds and quantities; never names of files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.training import LossName

_DATA = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "cifar10": "CIFAR-10", "boolean": "Boolean inputs"}
_WORDS = {
    "log_p": "log P(f)",
    "probit_log_p": "log P(f), probit",
    "ep_log_p": "log P(f), EP",
    "finite_log_p": "log P(f), finite kernel",
    "log_posterior": "log P(f | S)",
    "log_evidence": "log P(S)",
    "pac_bayes_bound": "PAC-Bayes bound",
    "gibbs_error": "Gibbs error of the posterior",
    "vote_error": "error of the posterior's vote",
    "lambda_max": "largest Hessian eigenvalue",
    "lambda_min": "smallest Hessian eigenvalue",
    "trace": "Hessian trace",
    "frobenius": "Hessian Frobenius norm",
    "fisher_trace": "Fisher trace",
    "fisher_rao_norm": "Fisher-Rao norm",
    "kappa": "relative flatness κ",
    "kappa_tr": "relative flatness κ_Tr",
    "keskar": "Keskar sharpness",
}

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


def loss(name: LossName) -> str:
    """Name a loss with its unit."""
    return f"loss ({'nats' if name == 'cross-entropy' else 'mse'})"


def in_words(name: str) -> str:
    """Return the name of a quantity for readers."""
    own, bracket, rest = name.partition("(")
    return _WORDS.get(own, own.replace("_", " ")) + (f" ({rest}" if bracket else "")
