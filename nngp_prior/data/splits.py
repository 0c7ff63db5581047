"""Training, attack and test sets out of one data set."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from nngp_prior.data.datasets import load
from nngp_prior.data.labellings import corrupted, label
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.data import Dataset, ImageData, Labelling
from nngp_prior.schemas.text import one_line

Examples = tuple[Float[np.ndarray, "n ..."], Integer[np.ndarray, " n"]]


class Sets(NamedTuple):
    """Inputs, as images where they are some, and labels -1 and +1.

    Attributes:
        train: with the labels' corruption, if there is one.
        attack: with the opposite of their true labels; None where there are none.
        test: with their true labels; None where there are none.
    """

    train: Examples
    attack: Examples | None
    test: Examples | None

    def __repr__(self) -> str:
        return one_line(self)


def training_sets(dataset: Dataset, labelling: Labelling, attack: int = 0, test: int = 0) -> Sets:
    """Draw a training set, an attack set and a test set that have no input in common.

    The first ``dataset.n`` inputs of the draw are the training set whichever others are asked for. Images of the split
    ``train`` are tested on a draw from the split ``test``; all other data sets on further inputs of their own. What
    ``standardise`` takes for mean and variance is that of training and attack set together, and of the test set.

    Args:
        dataset: with ``n``, the number of inputs to train on.
        labelling: of all sets, by -1 and +1; its corruption is of the training set alone.
        attack: inputs of the attack set.
        test: inputs of the test set.

    Returns:
        the three sets.

    Raises:
        InvalidInput: no ``n``, more inputs than there are, or labels that are not ±1.
    """
    if dataset.n is None:
        raise InvalidInput("n", "is missing", "Say how many inputs there are to train on.")
    for name, count in (("attack", attack), ("test", test)):
        if count < 0:
            raise InvalidInput(name, f"got {count}", "Pass a number of inputs, 0 for none.")
    if labelling.kind == "classes":
        raise InvalidInput("labelling", "got classes, where one output has labels -1 and +1", "Choose threshold, ….")
    n, apart = dataset.n, isinstance(dataset, ImageData) and dataset.split == "train" and test > 0
    clean = labelling.model_copy(update={"corruption": None})
    X, y = _labelled(dataset.model_copy(update={"n": n + attack + (0 if apart else test)}), clean)
    train = y[:n] if labelling.corruption is None else corrupted(y[:n], labelling.corruption)
    tested = None
    if apart:
        tested = _labelled(dataset.model_copy(update={"n": test, "split": "test"}), clean)
    elif test:
        tested = X[n + attack :], y[n + attack :]
    attacked = (X[n : n + attack], -y[n : n + attack]) if attack else None
    return Sets((X[:n], train), attacked, tested)


def _labelled(dataset: Dataset, labelling: Labelling) -> Examples:
    data = load(dataset)
    return data.images, label(labelling, data.classes, data.known_classes)
