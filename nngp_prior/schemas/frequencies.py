"""Protocols of studies of functions: how often networks have each function, against its estimated probability."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, field_validator

from nngp_prior.schemas.base import PLAIN, Count, Seed, Specification
from nngp_prior.schemas.protocols import Axes, Coefficient, Name, Protocol, Statistics
from nngp_prior.schemas.quantities import NAMED, LogP, LogPosterior
from nngp_prior.schemas.quantities import Name as QuantityName
from nngp_prior.schemas.specs.architecture import Architecture, FullyConnected
from nngp_prior.schemas.specs.data import TrainingData
from nngp_prior.schemas.specs.training import Training


class SampledLogP(Specification):
    """log of a function's frequency among functions drawn at infinite width.

    They are draws of the Gaussian process, or of the posterior given the training labels if networks are trained.

    Attributes:
        name: name of the quantity.
        draws: number of draws.
        runs: number of independent posteriors among which draws are divided, for the standard error; unused for draws
            of the Gaussian process.
    """

    kind: Literal["sampled-log-p"] = "sampled-log-p"
    name: QuantityName = "sampled_log_p"
    draws: Annotated[int, Field(ge=1, lt=2**32), PLAIN] = 1_000_000
    runs: Annotated[int, Field(ge=2, le=10_000), PLAIN] = 50


class Complexity(Specification):
    """Complexity of a function's labels.

    Attributes:
        measure: name of the measure, as for :func:`nngp_prior.complexity`.
    """

    kind: Literal["complexity"] = "complexity"
    measure: Literal["lempel-ziv", "entropy", "critical-sample-ratio", "formula-size", "cover-size"]

    @property
    def name(self) -> str:
        """Name of the quantity."""
        return self.measure.replace("-", "_")


_COMPLEXITIES = ("lempel-ziv", "entropy", "critical-sample-ratio", "formula-size", "cover-size")
_NAMED: dict[str, Specification] = {
    **{name: quantity for name, quantity in NAMED.items() if isinstance(quantity, LogP | LogPosterior)},
    "sampled-log-p": SampledLogP(),
    **{measure: Complexity(measure=measure) for measure in _COMPLEXITIES},
}


def _quantity(value: Any) -> Any:
    """Replace the name of a quantity by its fields."""
    if not isinstance(value, str):
        return value
    if value not in _NAMED:
        raise ValueError(f"Choose one of {', '.join(_NAMED)}")
    return _NAMED[value].as_json


_Quantity = Annotated[LogP | LogPosterior | SampledLogP | Complexity, Field(discriminator="kind")]
FunctionQuantity = Annotated[_Quantity, BeforeValidator(_quantity)]


class FrequencyMarks(Specification):
    """Published comparison of a quantity with sampled frequencies.

    Attributes:
        source: paper, and figure or table.
        pearson: Pearson's r of the quantity with log frequency.
        slope: slope of the line.
        bias: mean of the quantity minus log frequency, nats.
    """

    source: str
    pearson: Coefficient | None = None
    slope: float | None = None
    bias: float | None = None


class FrequencyProtocol(Specification):
    """A study of functions: their frequencies among random networks, or among trained ones, and quantities of each.

    Without ``training``, networks are drawn at initialisation, and functions are labellings of all inputs of ``data``.
    With it, networks are trained until the goal, each from its own draw, and functions are labellings of the test
    inputs. One half of the networks of a setting chooses the functions, and the other half counts them: frequencies of
    functions chosen by the same networks would be too high.

    Attributes:
        name: short name; the default folder of results is named after it.
        title: title of the report.
        about: what the study shows, in sentences, at the head of the report.
        architecture: architecture of the networks.
        training: training specification. Default: networks at initialisation.
        data: inputs; with ``training``, training and test set.
        axes: values by name of the axis, as for :class:`nngp_prior.schemas.protocols.Protocol`.
        seeds: number of networks of each setting, an even number.
        min_count: functions are those of at least this number of the networks that choose.
        functions: maximum number of functions of a setting. If there are more, half of these are the most frequent
            functions, and the others a random choice.
        seed: random seed of everything.
        quantities: names, or specifications with options.
        statistics: how coefficients are computed.
        published: published coefficients by name of the quantity.
    """

    kind: Literal["frequencies"] = "frequencies"
    name: Name
    title: str = ""
    about: str = ""
    architecture: Architecture = FullyConnected()
    training: Training | None = None
    data: TrainingData
    axes: Axes = Field(default_factory=dict)
    seeds: Annotated[int, Field(ge=2, lt=2**32, multiple_of=2), PLAIN] = 1000
    min_count: Count = 10
    functions: Annotated[int, Field(ge=4, le=100_000), PLAIN] = 400
    seed: Seed = 0
    quantities: Annotated[tuple[FunctionQuantity, ...], Field(min_length=1, max_length=100)]
    statistics: Statistics = Statistics()
    published: dict[str, FrequencyMarks] = Field(default_factory=dict)

    @field_validator("training")
    @classmethod
    def _has_a_goal(cls, training: Training | None) -> Training | None:
        if training is not None and training.goal == "none":
            raise ValueError("Functions are those of networks that reach a goal: leave goal='none' out")
        return training

    @field_validator("data")
    @classmethod
    def _has_the_inputs_of_functions(cls, data: TrainingData, info: Any) -> TrainingData:
        labelled = data.labelling is not None or data.labels_file is not None
        match info.data:
            case {"training": None} if labelled or data.test or data.attack:
                raise ValueError("Without training there are inputs only: leave test, attack and labels out")
            case {"training": Training()} if not data.test:
                raise ValueError(
                    "Functions of trained networks are labellings of the test inputs: ask for some by test"
                )
        return data

    @field_validator("quantities")
    @classmethod
    def _apply(cls, quantities: tuple[Any, ...], info: Any) -> tuple[Any, ...]:
        names = [each.name for each in quantities]
        if len(set(names)) < len(names):
            raise ValueError(f"Give each a name of its own (there are {', '.join(names)})")
        if any(isinstance(each, LogP | LogPosterior) and each.kernel is not None for each in quantities):
            raise ValueError("Frequencies are compared with the analytic kernel: leave kernel out")
        if info.data.get("training", ...) is None and any(isinstance(each, LogPosterior) for each in quantities):
            raise ValueError("log-posterior is given training labels: add training, or take log-p")
        if any(getattr(each, "kernel", None) is not None for each in quantities):
            raise ValueError("Functions are compared with log P at infinite width: leave kernel out")
        return quantities

    @property
    def networks(self) -> int:
        """Number of networks."""
        return self.seeds * math.prod(map(len, self.axes.values()))


def _with_kind(value: Any) -> Any:
    """Add the default kind."""
    return {"kind": "networks", **value} if isinstance(value, Mapping) and "kind" not in value else value


AnyProtocol = Annotated[
    Annotated[Protocol | FrequencyProtocol, Field(discriminator="kind")], BeforeValidator(_with_kind)
]
ANY_PROTOCOL: TypeAdapter[Protocol | FrequencyProtocol] = TypeAdapter(AnyProtocol)
