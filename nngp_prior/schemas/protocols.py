"""Protocols of studies: which networks are trained on which data, and which quantities are compared."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field

from nngp_prior.schemas.base import PLAIN, Seed, Specification
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
    statistics: Statistics = Statistics()
    published: dict[str, Marks] = Field(default_factory=dict)

    @property
    def networks(self) -> int:
        """Number of networks."""
        return self.seeds * math.prod(map(len, self.axes.values()))
