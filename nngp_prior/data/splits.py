"""Training, attack and test sets from one data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from nngp_prior.data.datasets import Data, load, load_file, outline
from nngp_prior.data.labellings import corrupted, label, own_labels
from nngp_prior.data.own_files import read_labels
from nngp_prior.errors import InvalidInput
from nngp_prior.numerics.random import generator
from nngp_prior.schemas.specs.data import Dataset, ImageData, Labelling, TrainingData
from nngp_prior.schemas.specs.labels import check_labels
from nngp_prior.schemas.text import one_line

Examples = tuple[Float[np.ndarray, "n ..."], Integer[np.ndarray, " n"]]


class Sets(NamedTuple):
    """Inputs, in image shape if they are images, and labels -1 and +1, or 0 … C-1.

    Attributes:
        train: training set, with corrupted labels if specified.
        attack: attack set, with the opposite of the true labels, or with a wrong class for each; None if not requested.
        test: test set, with true labels; None if not requested.
    """

    train: Examples
    attack: Examples | None
    test: Examples | None

    def __repr__(self) -> str:
        return one_line(self)


def training_sets(dataset: Dataset, labelling: Labelling, attack: int = 0, test: int = 0) -> Sets:
    """Draw a training set, an attack set and a test set that have no input in common.

    The first ``dataset.n`` inputs of the draw are the training set, whatever other sets are requested. Images of the
    split ``train`` are tested on a draw from the split ``test``; all other data sets on further inputs of their own.
    ``standardise`` uses one mean and one variance for all inputs drawn together: those of all three sets, except that
    images of the split ``test`` have their own.

    Args:
        dataset: specification of the data set, with ``n``, the number of training inputs.
        labelling: labelling of all sets, by -1 and +1; its corruption applies to the training set only.
        attack: number of inputs of the attack set.
        test: number of inputs of the test set.

    Returns:
        the three sets.

    Raises:
        InvalidInput: if ``n`` is missing, more inputs are requested than exist, or labels are not ±1.
    """
    for name, count in (("attack", attack), ("test", test)):
        if count < 0:
            raise InvalidInput(name, f"got {count}", "Pass a number of inputs, 0 for none.")
    return training_data(TrainingData(dataset=dataset, labelling=labelling, attack=attack, test=test))


def training_data(source: TrainingData, classes: int | None = None) -> Sets:
    """Draw the sets of a specification, as :func:`training_sets` does.

    Inputs from a file keep their order, and ``standardise`` uses all of them, also those in none of the sets.

    Args:
        source: specification of the data.
        classes: number of classes C, for labels 0 … C-1: those of the labelling ``classes``, or of files. The wrong
            classes of the attack set are drawn with the data set's seed. Default: labels ±1.

    Returns:
        the three sets.

    Raises:
        InvalidInput: if more inputs are requested than exist, or labels are not ±1, or 0 … C-1.
        DataUnavailable: if a file is missing or broken.
    """
    parts, y, n = _labelled(source, load, classes)
    X, total = np.concatenate([part.images for part in parts]), n + source.attack + source.test
    corruption = source.corruption if source.labelling is None else source.labelling.corruption
    train = y[:n] if corruption is None else corrupted(y[:n], corruption, classes)
    tested, cut = slice(n + source.attack, total), slice(n, n + source.attack)
    seed = 0 if source.dataset is None else source.dataset.seed
    wrong = -y[cut] if classes is None else wrong_classes(y[cut], classes, seed)
    return Sets(
        (X[:n], train), (X[cut], wrong) if source.attack else None, (X[tested], y[tested]) if source.test else None
    )


def number_of_classes(source: TrainingData) -> int | None:
    """Return the number of classes C of the labelling ``classes``, without loading large inputs.

    Args:
        source: specification of the data.

    Returns:
        C; None for another labelling.

    Raises:
        DataUnavailable: if a file is missing or broken.
    """
    if source.labelling is None or source.labelling.kind != "classes":
        return None
    if source.inputs_file is not None:
        return len(load_file(Path(source.inputs_file), source.preprocessing).known_classes)
    return None if source.dataset is None else len(outline(source.dataset).known_classes)


def wrong_classes(y: Integer[np.ndarray, " n"], classes: int, seed: int) -> Integer[np.ndarray, " n"]:
    """Draw a wrong class for each input, each of the C - 1 others with the same probability.

    Args:
        y: true classes, 0 … C-1.
        classes: C, at least 2.
        seed: random seed.

    Returns:
        classes other than those of ``y``.
    """
    return (y + generator(seed, "wrong classes").integers(1, classes, len(y))) % classes


class Outlines:
    """Outlines of draws from data sets, each of which is read once."""

    def __init__(self) -> None:
        self._whole: dict[str, Data] = {}

    def __call__(self, dataset: Dataset) -> Data:
        """Return the outline of a draw; which inputs are drawn is not determined."""
        whole = dataset.model_copy(update={"n": None, "seed": 0})
        if whole.content_hash not in self._whole:
            self._whole[whole.content_hash] = outline(whole)
        found = self._whole[whole.content_hash]
        if dataset.n is None or dataset.n > len(found.X):
            return outline(dataset)  # refuses it
        return found._replace(
            X=found.X[: dataset.n], classes=found.classes[: dataset.n], place=found.place[: dataset.n]
        )


def training_shape(source: TrainingData, outlines: Outlines) -> tuple[int, ...]:
    """Return the shape of the training set without loading large inputs.

    Args:
        source: specification of the data, as for :func:`training_data`.
        outlines: outlines of data sets.

    Returns:
        number of training inputs, then the shape of one input.

    Raises:
        InvalidInput: as from :func:`training_data`.
        DataUnavailable: as from :func:`training_data`.
    """
    parts, _, n = _labelled(source, outlines, None)
    return (n, *parts[0].image_shape)


_Find = Callable[[Dataset], Data]


def _labelled(
    source: TrainingData, find: _Find, classes: int | None
) -> tuple[list[Data], Integer[np.ndarray, " n"], int]:
    """Return the inputs of all sets, their true labels, and the number of training inputs."""
    by_class = source.labelling is not None and source.labelling.kind == "classes"
    if classes is not None and source.labelling is not None and not by_class:
        problem = f"got {source.labelling.kind!r}, which has labels -1 and +1, with {classes} classes"
        raise InvalidInput("labelling", problem, "Choose the labelling classes, or leave the number of classes out.")
    if by_class and classes is None:
        raise InvalidInput("labelling", "got classes, where one output has labels -1 and +1", "Choose threshold, ….")
    if source.inputs_file is not None:
        parts = [load_file(Path(source.inputs_file), source.preprocessing)]
        n = len(parts[0].X) - source.attack - source.test if source.n is None else source.n
    else:
        parts, n = _drawn(source, find)
    there, total = sum(len(part.X) for part in parts), n + source.attack + source.test
    y = _labels(source, parts, there, classes)
    if n < 1 or total > there:
        problem = (
            f"{max(n, 1):,} training, {source.attack:,} attack and {source.test:,} test inputs are more than {there:,}"
        )
        raise InvalidInput("n", problem, "Ask for fewer.")
    return parts, y, n


def _drawn(source: TrainingData, find: _Find) -> tuple[list[Data], int]:
    """Return the drawn inputs, those of a separate test split apart, and the number of training inputs."""
    dataset = source.dataset
    if dataset is None or dataset.n is None:
        raise InvalidInput("n", "is missing", "Say how many inputs there are to train on.")
    n, apart = dataset.n, isinstance(dataset, ImageData) and dataset.split == "train" and source.test > 0
    first = find(dataset.model_copy(update={"n": n + source.attack + (0 if apart else source.test)}))
    if not apart:
        return [first], n
    return [first, find(dataset.model_copy(update={"n": source.test, "split": "test"}))], n


def _labels(source: TrainingData, parts: list[Data], total: int, classes: int | None) -> Integer[np.ndarray, " n"]:
    """Return the true labels of all inputs."""
    if source.labels_file is not None:
        named = read_labels(Path(source.labels_file))
        if len(named) > 1:
            raise InvalidInput("labels_file", f"has {len(named)} labellings", "Give one.")
        return check_labels(named[0][1], total, classes, takes_classes=True, field="labels_file").astype(
            np.int8 if classes is None else np.int64
        )
    if source.labelling is not None:
        clean = source.labelling.model_copy(update={"corruption": None})
        return np.concatenate([label(clean, part.classes, part.known_classes) for part in parts])
    (part,) = parts
    if classes is not None and part.known_classes:
        return check_labels(part.classes, total, classes, takes_classes=True, field="inputs_file").astype(np.int64)
    return own_labels(part.classes, part.known_classes, Path(source.inputs_file or "")).astype(np.int8)
