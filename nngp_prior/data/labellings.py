"""Labellings of a data set: ±1 per input, from its class or from another source; or the class itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from nngp_prior.data.own_files import unnamed_labels
from nngp_prior.errors import InvalidLabels
from nngp_prior.numerics.random import generator
from nngp_prior.registry import Registry
from nngp_prior.schemas.specs.data import (
    ByClass,
    Classes,
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
    TwoClasses,
)

LABELLINGS: Registry[Callable[[Any, np.ndarray], np.ndarray]] = Registry()


def label(
    labelling: Labelling, classes: Integer[np.ndarray, " n"], known_classes: tuple[int, ...] | None = None
) -> Integer[np.ndarray, " n"]:
    """Label the inputs.

    Args:
        labelling: the specification, corruption included.
        classes: (n,) classes of the inputs.
        known_classes: all classes of the data set (``Data.known_classes``), of which a small subset may lack some;
            default: those in ``classes``.

    Returns:
        -1 and +1 as int8, or for ``classes`` integers from 0 on.

    Raises:
        InvalidLabels: if a labelling by class meets data without classes or gives all classes the same label
            (``threshold`` above the largest one); ``two-classes`` with other classes; or the number of explicit labels
            or flips does not match.
    """
    if isinstance(labelling, ByClass):
        known = np.unique(classes) if known_classes is None else np.array(known_classes, dtype=int)
        _check_classes(labelling, known)
        if isinstance(labelling, Classes):
            labels = np.searchsorted(known, classes)
            return labels if labelling.corruption is None else corrupted(labels, labelling.corruption, len(known))
    labels = LABELLINGS[labelling](labelling, classes).astype(np.int8)
    return labels if labelling.corruption is None else corrupted(labels, labelling.corruption)


def own_labels(
    y: Integer[np.ndarray, " n"], known: tuple[int, ...], path: Path, takes_classes: bool = False
) -> Integer[np.ndarray, " n"]:
    """Check labels that come with a user's inputs, if no labelling is specified.

    Args:
        y: (n,) labels of the inputs.
        known: all labels of the data set (``Data.known_classes``); empty if the inputs have no labels.
        path: file of the inputs, for error messages.
        takes_classes: True if the labelling ``classes`` can be used.

    Returns:
        the same labels, if they are -1 and +1.

    Raises:
        InvalidLabels: if there are none, or they are not -1 and +1.
    """
    if not known:
        others = unnamed_labels(path, len(y))
        problem, remedy = f"is missing, and {path.name} has no labels beside its inputs", "Give labels"
        if others:
            problem += f" under the name labels or y (of the same length: {', '.join(others)})"
            remedy = f"If {others[0]} are the labels, save them as labels; or give others"
        raise InvalidLabels("labels-file", problem, f"{remedy}, or choose a labelling: random or constant.")
    if not set(known) <= {-1, 1}:
        named = "one-vs-rest:1" if set(known) <= {0, 1} else f"one-vs-rest:{known[0]}, threshold:{known[-1]} or parity"
        remedy = f"Say which are +1 with --labelling {named}{', or take classes' if takes_classes else ''}."
        problem = f"is missing, and {path.name} has the labels {_listed(np.array(known))}"
        raise InvalidLabels("labelling", problem, remedy)
    return y


def _check_classes(labelling: ByClass, known: np.ndarray) -> None:
    values = labelling.model_dump(exclude={"corruption"})
    described = " ".join([values.pop("kind"), *(f"{name}={value}" for name, value in values.items())])
    if known.size == 0:
        raise InvalidLabels(
            "labelling",
            f"{described} is by class, and these inputs have no classes",
            "Give classes, or choose random, constant or explicit.",
        )
    if isinstance(labelling, TwoClasses) and not set(known) <= {labelling.positive, labelling.negative}:
        raise InvalidLabels(
            "labelling",
            f"{described} where the data have the classes {_listed(known)}",
            f"Choose data with classes=({labelling.positive}, {labelling.negative}) alone.",
        )
    if len(np.unique(LABELLINGS[labelling](labelling, known))) == 1:
        raise InvalidLabels(
            "labelling",
            f"{described} labels all classes that there are ({_listed(known)}) alike",
            "Choose it by these classes, or constant if that is meant.",
        )


def _listed(known: np.ndarray) -> str:
    """Return a short text that lists the classes."""
    if len(known) > 2 and known[-1] - known[0] == len(known) - 1:
        return f"{known[0]} … {known[-1]}"
    return ", ".join(map(str, known if len(known) <= 8 else [*known[:4], "…", *known[-2:]]))


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


@LABELLINGS.register(TwoClasses)
def _two_classes(labelling: TwoClasses, classes: np.ndarray) -> np.ndarray:
    return _signs(classes == labelling.positive)


@LABELLINGS.register(Classes)
def _classes(labelling: Classes, classes: np.ndarray) -> np.ndarray:
    del labelling
    return classes


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


def corrupted(
    y: Integer[np.ndarray, " n"], corruption: Corruption, classes: int | None = None
) -> Integer[np.ndarray, " n"]:
    """Return labels with some of them redrawn or changed.

    Args:
        y: (n,) -1 and +1, or classes 0 … C-1.
        corruption: specification of the corruption.
        classes: number of classes C.

    Returns:
        the corrupted labels.

    Raises:
        InvalidLabels: if there are more flips than labels.
    """
    rng = generator(corruption.seed, "corruption")  # not the stream of RandomLabels with the same seed
    match corruption:
        case Randomise(probability=probability):
            redrawn = rng.random(len(y)) < probability
            if classes is not None:
                return np.where(redrawn, rng.integers(classes, size=len(y)), y)
            return np.where(redrawn, _signs(rng.random(len(y)) < 0.5), y).astype(np.int8)
        case Flip(count=count):
            if count > len(y):
                raise InvalidLabels(
                    "corruption.count", f"{count} labels to flip where there are {len(y)}", "Flip fewer."
                )
            chosen = rng.permutation(len(y))[:count]
            flipped = y.astype(np.int8 if classes is None else np.int64)
            if classes is None:
                flipped[chosen] *= -1
            else:
                flipped[chosen] = (flipped[chosen] + rng.integers(1, classes, size=count)) % classes
            return flipped
