"""The data that networks in a file were trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter

from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.data import Dataset, Labelling

if TYPE_CHECKING:
    from nngp_prior.sharpness.trained import Trained

_DATASET: TypeAdapter[Dataset] = TypeAdapter(Dataset)
_LABELLING: TypeAdapter[Labelling] = TypeAdapter(Labelling)


def examples_of(trained: Trained, attack: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Load the training set again.

    Args:
        trained: networks that ``sharpness train`` has trained.
        attack: whether the attack set follows it.

    Returns:
        inputs, images where they are some, and labels.

    Raises:
        InvalidInput: networks that something else has trained, whose data have no names; or no attack set.
    """
    from nngp_prior.data.splits import training_sets

    source = trained.about.get("source") or {}
    if "dataset" not in source:
        problem = "does not say where its data come from"
        raise InvalidInput("FILE", problem, "Train with nngp-prior sharpness train, or call landscape from Python.")
    dataset = _DATASET.validate_python(source["dataset"])
    sets = training_sets(dataset, _LABELLING.validate_python(source["labelling"]), source["attack"])
    X, y = sets.train
    if attack:
        if sets.attack is None:
            raise InvalidInput("--with-attack", "there is no attack set", "Leave it out, or train with one.")
        X, y = np.concatenate([X, sets.attack[0]]), np.concatenate([y, sets.attack[1]])
    return X, y
