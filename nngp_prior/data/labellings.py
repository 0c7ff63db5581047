"""Labellings of a data set: ±1 for each input, from its class or from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Int8, Integer

from nngp_prior.errors import InvalidLabels
from nngp_prior.numerics.random import generator
from nngp_prior.registry import Registry
from nngp_prior.schemas.data import (
    Constant,
    Corruption,
    Explicit,
    Flip,
    Labelling,
    OneVsRest,
    Parity,
    Randomise,
    RandomLabels,
    Threshold,
)

LABELLINGS: Registry[Callable[[Any, np.ndarray], np.ndarray]] = Registry()


def label(labelling: Labelling, classes: Integer[np.ndarray, " n"]) -> Int8[np.ndarray, " n"]:
    """Label the inputs.

    Args:
        labelling: the specification, corruption included.
        classes: the inputs' classes.

    Returns:
        -1 and +1.
    """
    labels = LABELLINGS[labelling](labelling, classes).astype(np.int8)
    return labels if labelling.corruption is None else _corrupt(labels, labelling.corruption)


def _signs(positive: np.ndarray) -> np.ndarray:
    return np.where(positive, 1, -1)


@LABELLINGS.register(Threshold)
def _threshold(labelling: Threshold, classes: np.ndarray) -> np.ndarray:
    return _signs(classes >= labelling.at)


@LABELLINGS.register(Parity)
def _parity(labelling: Parity, classes: np.ndarray) -> np.ndarray:
    del labelling
    return _signs(classes % 2 == 1)


@LABELLINGS.register(OneVsRest)
def _one_vs_rest(labelling: OneVsRest, classes: np.ndarray) -> np.ndarray:
    return _signs(classes == labelling.label)


@LABELLINGS.register(RandomLabels)
def _random(labelling: RandomLabels, classes: np.ndarray) -> np.ndarray:
    return _signs(np.random.default_rng(labelling.seed).random(len(classes)) < 0.5)


@LABELLINGS.register(Constant)
def _constant(labelling: Constant, classes: np.ndarray) -> np.ndarray:
    return np.full(len(classes), labelling.value)


@LABELLINGS.register(Explicit)
def _explicit(labelling: Explicit, classes: np.ndarray) -> np.ndarray:
    if len(labelling.values) != len(classes):
        raise InvalidLabels(
            "values", f"{len(labelling.values)} labels where there are {len(classes)} inputs", "Give one an input."
        )
    return np.array(labelling.values)


def _corrupt(labels: np.ndarray, corruption: Corruption) -> np.ndarray:
    rng = generator(corruption.seed, "corruption")  # not the stream of RandomLabels with the same seed
    match corruption:
        case Randomise(probability=probability):
            redrawn = rng.random(len(labels)) < probability
            return np.where(redrawn, _signs(rng.random(len(labels)) < 0.5), labels).astype(np.int8)
        case Flip(count=count):
            if count > len(labels):
                raise InvalidLabels(
                    "corruption.count", f"{count} labels to flip where there are {len(labels)}", "Flip fewer."
                )
            flipped = labels.copy()
            flipped[rng.permutation(len(labels))[:count]] *= -1
            return flipped
