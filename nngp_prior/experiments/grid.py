"""The settings of a protocol: all combinations of the values of its axes."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from nngp_prior.errors import InvalidInput
from nngp_prior.numerics.random import generator
from nngp_prior.schemas.base import explain
from nngp_prior.schemas.frequencies import FrequencyProtocol
from nngp_prior.schemas.protocols import Protocol

_PATHS = {
    "attack": "data.attack",
    "train": "data.dataset.n",
    "dataset": "data.dataset.kind",
    "width": "architecture.width",
    "channels": "architecture.channels",
    "depth": "architecture.depth",
    "activation": "architecture.activation",
    "optimizer": "training.optimizer",
    "learning-rate": "training.optimizer.learning_rate",
    "batch-size": "training.batch_size",
    "corruption": "data.labelling.corruption",
}

Value = str | int | float | bool
P = TypeVar("P", Protocol, FrequencyProtocol)


@dataclass(frozen=True)
class Setting(Generic[P]):
    """One combination of the axes' values; what it determines does not depend on the other combinations.

    Attributes:
        values: value of each axis.
        protocol: the protocol with these values, without axes.
    """

    values: Mapping[str, Value]
    protocol: P

    @cached_property
    def seed(self) -> int:
        """Random seed of the networks of this setting."""
        content = json.dumps(list(self.values.items()))
        return int(generator(self.protocol.seed, "networks", content).integers(2**63))

    @cached_property
    def key(self) -> str:
        """Hexadecimal digits that are equal for equal networks."""
        own = self.protocol
        training = "" if own.training is None else own.training.content_hash
        course = own.course.content_hash if isinstance(own, Protocol) and own.course is not None else ""
        parts = (
            own.data.content_hash,
            own.architecture.content_hash,
            training,
            str(self.seed),
            *filter(None, [course]),
        )
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        return ", ".join(f"{name} = {value}" for name, value in self.values.items()) or self.protocol.name


def settings_of(protocol: P) -> list[Setting[P]]:
    """Return all settings of a protocol; the last axis varies fastest.

    Args:
        protocol: the protocol.

    Returns:
        the settings, validated.

    Raises:
        InvalidInput: if an axis names no field, or a value is invalid; the error names the axis and its value.
    """
    base = {**protocol.as_json, "axes": {}}
    combinations = itertools.product(*protocol.axes.values())
    return [_setting(type(protocol), base, dict(zip(protocol.axes, values, strict=True))) for values in combinations]


def _setting(kind: type[P], base: dict[str, Any], values: dict[str, Any]) -> Setting[P]:
    document = copy.deepcopy(base)
    for name, value in values.items():
        _put(document, name, copy.deepcopy(value))
    texts = {name: _short(value) for name, value in values.items()}
    try:
        return Setting(texts, kind.model_validate(document))
    except ValidationError as error:
        found = explain(error)
        at = ", ".join(f"{name} = {text}" for name, text in texts.items())
        raise InvalidInput(f"axes ({at}): {found.field}", found.problem, found.remedy) from None


def _put(document: dict[str, Any], axis: str, value: Any) -> None:
    """Set the field of an axis; a specification may be given by its kind alone, a corruption by its probability."""
    path = _PATHS.get(axis, axis).split(".")
    inner: Any = document
    for part in path[:-1]:
        inner = inner.get(part) if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or len(path) < 2 or path[0] not in ("data", "architecture", "training"):
        remedy = f"Name one of {', '.join(_PATHS)}, or a path such as architecture.bias_std."
        raise InvalidInput("axes", f"{axis!r} is no field of the protocol's data, architecture or training", remedy)
    if axis == "corruption" and not isinstance(value, dict):
        value = {"kind": "randomise", "probability": value}
    elif isinstance(value, str) and isinstance(inner.get(path[-1]), dict):
        value = {"kind": value}
    inner[path[-1]] = value


def _short(value: Any) -> Value:
    """Value of an axis for tables and figures."""
    if isinstance(value, Value):
        return value
    if isinstance(value, dict):
        rest = ", ".join(f"{name} {part}" for name, part in value.items() if name != "kind")
        return " ".join(filter(None, (str(value.get("kind", "")), rest)))
    return json.dumps(value)
