"""Protocols of studies: which networks are trained on which data, and which quantities are compared."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from nngp_prior.schemas.base import PLAIN, Count, Seed, Specification
from nngp_prior.schemas.quantities import Quantity
from nngp_prior.schemas.specs.architecture import Architecture, FullyConnected
from nngp_prior.schemas.specs.data import TrainingData
from nngp_prior.schemas.specs.training import Training

Coefficient = Annotated[float, Field(ge=-1, le=1)]
Name = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9-]*$", max_length=60)]
Axes = dict[str, Annotated[tuple[Any, ...], Field(min_length=1, max_length=1000)]]


class Marks(Specification):
    """Published correlation coefficients of a quantity with the test accuracy.

    Attributes:
        source: paper, and figure or table.
        pearson: Pearson's r.
        spearman: Spearman's ρ.
        kendall: Kendall's τ.
    """

    source: str
    pearson: Coefficient | None = None
    spearman: Coefficient | None = None
    kendall: Coefficient | None = None


class Moment(NamedTuple):
    """A point of a course at which networks are measured.

    Attributes:
        epoch: number of epochs after the goal.
        rescaled: True after the rescaling.
    """

    epoch: int
    rescaled: bool


class Course(Specification):
    """Training that continues after the goal, with measurements at intervals and, optionally, one rescaling.

    Attributes:
        epochs: number of epochs after the goal.
        every: number of epochs between measurements, a divisor of ``epochs``.
        rescale_after: number of epochs after the goal when the first hidden layer is divided by α and the next one's
            weights are multiplied by it, a multiple of ``every``; networks are measured before and after. Default: no
            rescaling.
        alpha: α.
    """

    epochs: Count
    every: Count
    rescale_after: Count | None = None
    alpha: Annotated[float, Field(gt=0, le=1e6), PLAIN] = 5.9

    @model_validator(mode="after")
    def _fit(self) -> Course:
        if self.epochs % self.every or (self.rescale_after or 0) % self.every:
            raise ValueError("epochs and rescale_after must be multiples of every")
        if self.rescale_after is not None and self.rescale_after >= self.epochs:
            raise ValueError("rescale_after must be less than epochs")
        return self

    @property
    def moments(self) -> list[Moment]:
        """Points of measurement in order."""
        epochs, at = range(0, self.epochs + 1, self.every), self.rescale_after
        if at is None:
            return [Moment(epoch, False) for epoch in epochs]
        before = [Moment(epoch, False) for epoch in epochs if epoch <= at]
        return before + [Moment(epoch, True) for epoch in epochs if epoch >= at]


class Statistics(Specification):
    """How correlations over networks are computed.

    Attributes:
        level: probability content of intervals.
        resamples: number of bootstrap resamples.
        seed: random seed of the resamples.
    """

    level: Annotated[float, Field(gt=0, lt=1), PLAIN] = 0.95
    resamples: Annotated[int, Field(ge=50, le=10**6), PLAIN] = 1000
    seed: Seed = 0


class Protocol(Specification):
    """A study: networks over all combinations of the axes' values, several of each, and quantities of each network.

    Attributes:
        name: short name; the default folder of results is named after it.
        title: title of the report.
        about: what the study shows, in sentences, at the head of the report.
        data: training, attack and test set.
        architecture: architecture of the networks.
        training: training specification.
        axes: values by name of the axis: ``attack``, ``corruption``, ``train``, ``dataset``, ``width``, ``channels``,
            ``depth``, ``activation``, ``optimizer``, ``learning-rate``, ``batch-size``, or the path of any other field,
            such as ``architecture.bias_std``.
        seeds: number of networks of each setting.
        seed: random seed of everything.
        quantities: names, or specifications with options.
        course: measurements in the course of further training, in place of those at the end of training.
        statistics: how correlations are computed.
        published: published coefficients by name of the quantity.
    """

    kind: Literal["networks"] = "networks"
    name: Name
    title: str = ""
    about: str = ""
    data: TrainingData
    architecture: Architecture = FullyConnected()
    training: Training = Training()
    axes: Axes = Field(default_factory=dict)
    seeds: Annotated[int, Field(ge=1, le=10_000), PLAIN] = 5
    seed: Seed = 0
    quantities: Annotated[tuple[Quantity, ...], Field(min_length=1, max_length=100)]
    course: Course | None = None
    statistics: Statistics = Statistics()
    published: dict[str, Marks] = Field(default_factory=dict)

    @property
    def networks(self) -> int:
        """Number of networks."""
        return self.seeds * math.prod(map(len, self.axes.values()))
