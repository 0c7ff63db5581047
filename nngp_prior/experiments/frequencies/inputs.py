"""Inputs of a study of functions: the labelled inputs, and a training set if there is one."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int8

from nngp_prior.data.datasets import load, load_file
from nngp_prior.data.splits import Outlines, training_data, training_shape
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.frequencies import FrequencyProtocol
from nngp_prior.schemas.specs.data import TrainingData


class Inputs(NamedTuple):
    """Inputs of the functions, and training examples.

    Attributes:
        X: inputs that functions label.
        X_train: training inputs; none without training.
        y_train: training labels -1 and +1.
        y_test: true labels of ``X``; none without training.
    """

    X: Float[np.ndarray, "n ..."]
    X_train: Float[np.ndarray, "m ..."]
    y_train: Int8[np.ndarray, " m"]
    y_test: Int8[np.ndarray, " t"]

    @property
    def together(self) -> Float[np.ndarray, "inputs ..."]:
        """Training inputs, followed by the inputs that functions label."""
        return np.concatenate([self.X_train, self.X])


def inputs_of(protocol: FrequencyProtocol) -> Inputs:
    """Load the inputs of a setting.

    Args:
        protocol: protocol of the setting.

    Returns:
        the inputs.

    Raises:
        InvalidInput: if the data are not specified.
        DataUnavailable: if a file is missing or damaged.
    """
    return _loaded(protocol.data, protocol.training is not None)  # pyright: ignore[reportArgumentType]  hashable


class Shapes(NamedTuple):
    """Shapes of the inputs of a study of functions.

    Attributes:
        functions: of the inputs that functions label, (n, ...).
        together: of these and the training inputs, (inputs, ...).
    """

    functions: tuple[int, ...]
    together: tuple[int, ...]

    @property
    def train(self) -> tuple[int, ...]:
        """Shape of the training inputs."""
        return (self.together[0] - self.functions[0], *self.functions[1:])


def shapes_of(protocol: FrequencyProtocol, outlines: Outlines) -> Shapes:
    """Return the shapes of the inputs of a setting without loading large inputs of a data set.

    Args:
        protocol: protocol of the setting.
        outlines: outlines of data sets.

    Returns:
        the shapes.

    Raises:
        InvalidInput: as from :func:`inputs_of`, or if more inputs are requested than exist.
        DataUnavailable: as from :func:`inputs_of`.
    """
    data = protocol.data
    if protocol.training is not None:
        train, *shape = training_shape(data, outlines)
        return Shapes((data.test, *shape), (train + data.test, *shape))
    if data.dataset is not None:
        found = outlines(data.dataset)
        whole = (len(found.X), *found.image_shape)
    else:
        whole = inputs_of(protocol).X.shape
    return Shapes(whole, whole)


@functools.lru_cache(maxsize=2)
def _loaded(data: TrainingData, trained: bool) -> Inputs:
    if trained:
        sets = training_data(data)
        assert sets.test is not None
        X, y = sets.train
        return Inputs(sets.test[0], X, y.astype(np.int8), sets.test[1].astype(np.int8))
    if data.dataset is not None:
        X = load(data.dataset).images
    elif data.inputs_file is not None:
        X = load_file(Path(data.inputs_file), data.preprocessing).images[: data.n]
    else:
        raise InvalidInput("data", "has neither dataset nor inputs_file", "Name one of them.")
    none = np.zeros(0, np.int8)
    return Inputs(X, X[:0], none, none)
