"""Complete requests, over HTTP and in process."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.base import KIND_IS_SAID, PLAIN, Count, OrNamed, Said, Seed, Specification
from nngp_prior.schemas.frequencies import AnyProtocol, FrequencyProtocol
from nngp_prior.schemas.lists import StopsEarly
from nngp_prior.schemas.measures.registry import DEFAULT, Measure, measure_of
from nngp_prior.schemas.protocol_files import named, names
from nngp_prior.schemas.protocols import Protocol
from nngp_prior.schemas.specs.architecture import Architecture, FullyConnected
from nngp_prior.schemas.specs.data import SHA256, BlobData, BlobLabellings, Dataset, Labelling
from nngp_prior.schemas.specs.estimator import SMC, Estimator
from nngp_prior.schemas.specs.training import LossName

RequestDataset = Annotated[Dataset | BlobData, Field(discriminator="kind")]
RequestLabelling = Annotated[Labelling | BlobLabellings, Field(discriminator="kind")]
RequestLabellings = Annotated[tuple[RequestLabelling, ...], Field(min_length=1), StopsEarly()]
ArrayName = Annotated[str, Field(pattern="^(dense|convolution) [1-9][0-9]{0,4}/(weight|bias)$")]
_Probability = Annotated[float, Field(ge=1e-9, lt=1), PLAIN]
_Positive = Annotated[float, Field(gt=0, le=1e100), PLAIN]
_Interval = tuple[_Positive, _Positive]
WEIGHT_STD, BIAS_STD = (0.1, 10.0), (0.01, 10.0)
"""Default intervals of σ_w and σ_b from which they are chosen."""


class KernelRequest(Specification):
    """A kernel matrix of an architecture on a data set.

    Attributes:
        work: name of the route, ``/v1/{work}``; not a field, also below.
        architecture: architecture of the network.
        dataset: data set of the inputs.
        get: ``nngp`` for the covariances of outputs, or ``ntk`` for the neural tangent kernel.
        dtype: dtype of the computation and of the matrix.
    """

    work: ClassVar[str] = "kernels"
    architecture: Architecture = FullyConnected(depth=2)
    dataset: RequestDataset
    get: Literal["nngp", "ntk"] = "nngp"
    dtype: Literal["float64", "float32"] = "float64"


class EstimateRequest(Specification):
    """log P of labellings of a data set under the prior of an infinitely wide network.

    Attributes:
        architecture: architecture of the network.
        dataset: data set of the inputs.
        labellings: labellings of the inputs; an uploaded array has one per row.
        estimator: estimator with its options.
        seed: random seed of the estimator.
    """

    work: ClassVar[str] = "estimates"
    architecture: Architecture = FullyConnected(depth=2)
    dataset: RequestDataset
    labellings: RequestLabellings
    estimator: Estimator = SMC()
    seed: Seed = 0


class BoundRequest(EstimateRequest):
    """PAC-Bayes bounds on the generalization error, with each labelling as labels of training examples.

    Attributes:
        delta: δ, the probability that a bound fails, over the examples and the randomness of the estimator.
        gamma: γ of ``valle-perez-louis``, over the draw of the function.
        estimator_share: fraction of δ for the estimator's lower bound.
        sizes: values of m, for bounds from the first m examples. Default: all examples.
    """

    work: ClassVar[str] = "bounds"
    delta: _Probability = 0.05
    gamma: _Probability = 0.05
    estimator_share: _Probability = 0.1
    sizes: Annotated[tuple[Count, ...], Field(min_length=1, max_length=200), StopsEarly()] | None = None

    @field_validator("sizes")
    @classmethod
    def _each_once(cls, sizes: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if sizes is None else tuple(sorted(set(sizes)))


def _of_signs(estimator: SMC) -> SMC:
    if estimator.classes is not None:
        raise ValueError("labels are -1 and +1, such as one class against the rest: leave classes out")
    return estimator


def _of_a_posterior(estimator: SMC) -> SMC:
    if estimator.target_stderr is not None:
        raise ValueError("a posterior has many numbers: leave target_stderr out, and choose particles")
    return estimator


_SMCOfPosterior = Annotated[
    SMC,
    AfterValidator(_of_a_posterior),
    KIND_IS_SAID,
    Said({"properties": {"target_stderr": {"type": "null"}}}),
]
_SMCOfSelection = Annotated[
    SMC,
    AfterValidator(_of_signs),
    AfterValidator(_of_a_posterior),
    KIND_IS_SAID,
    Said({"properties": {"classes": {"type": "null"}, "target_stderr": {"type": "null"}}}),
]


class PosteriorRequest(EstimateRequest):
    """The posterior given the labels of the first inputs, at the other inputs.

    Attributes:
        train: m, the number of leading inputs used for training; the others are test inputs.
        estimator: estimator of the runs, without ``target_stderr``.
    """

    work: ClassVar[str] = "posteriors"
    train: Count
    estimator: _SMCOfPosterior = SMC()  # pyright: ignore[reportIncompatibleVariableOverride]


class SelectionRequest(Specification):
    """A choice among architectures, and of their σ_w and σ_b, by log P of the training labels.

    Attributes:
        family: architectures to choose from; the search starts at their σ_w and σ_b.
        dataset: data set of the inputs.
        labelling: labelling of the inputs; an uploaded array must have one row.
        train: m, the number of leading inputs used for training; the others are test inputs, which have no part in the
            choice. Default: all inputs.
        weight_std: interval of σ_w.
        bias_std: interval of σ_b.
        estimator: estimator of log P, without ``classes`` and ``target_stderr``.
        seed: random seed of the estimator.
    """

    work: ClassVar[str] = "selections"
    family: Annotated[tuple[Architecture, ...], Field(min_length=1, max_length=100), StopsEarly()] = (
        FullyConnected(depth=2),
    )
    dataset: RequestDataset
    labelling: RequestLabelling
    train: Count | None = None
    weight_std: _Interval = WEIGHT_STD
    bias_std: _Interval = BIAS_STD
    estimator: _SMCOfSelection = SMC()
    seed: Seed = 0

    @field_validator("weight_std", "bias_std")
    @classmethod
    def _ascending(cls, interval: tuple[float, float]) -> tuple[float, float]:
        if not interval[0] < interval[1]:
            raise ValueError("Give two positive numbers, the smaller first")
        return interval


class SampleRequest(Specification):
    """Draws from the prior, counted by their function at the inputs.

    Attributes:
        architecture: architecture of the networks, including width or channels.
        dataset: data set of the inputs.
        networks: number of draws.
        source: finite networks at initialisation, or the Gaussian process of infinite width.
        seed: random seed of all draws.
        top: number of the most frequent functions to list.
        complexities: complexity measures of each listed function.
    """

    work: ClassVar[str] = "samples"
    architecture: Architecture = FullyConnected(depth=2)
    dataset: RequestDataset
    networks: Annotated[int, Field(ge=1, lt=2**32), PLAIN] = 100_000
    source: Literal["networks", "gp"] = "networks"
    seed: Seed = 0
    top: Annotated[int, Field(ge=1, le=10_000), PLAIN] = 10
    complexities: Annotated[
        tuple[Literal["lempel-ziv", "entropy", "critical-sample-ratio"], ...], Field(max_length=3), StopsEarly()
    ] = ()


class SharpnessRequest(Specification):
    """Flatness of the loss at a trained network.

    Attributes:
        architecture: architecture of the network, including width or channels.
        weights: SHA-256 of the uploaded arrays by name: ``dense 1/weight``, (inputs, units) or (size, size, channels
            in, channels out), ``dense 1/bias``, … Layers are numbered from the input on, in residual blocks the main
            branch before the shortcut.
        dataset: data set of the inputs.
        labelling: labelling of the inputs; an uploaded array must have one row.
        measures: measures with their options.
        loss: ``cross-entropy`` in nats, or ``mse``, (f - y)².
        dtype: dtype of all computations.
        seed: random seed of random vectors.
    """

    work: ClassVar[str] = "sharpness"
    architecture: Architecture = FullyConnected(depth=2)
    weights: Annotated[
        dict[ArrayName, SHA256],
        Field(min_length=1, max_length=10_000),
        StopsEarly(),
        Said({"additionalProperties": False}),
    ]
    dataset: RequestDataset
    labelling: RequestLabelling
    measures: Annotated[tuple[Measure, ...], Field(min_length=1, max_length=1000), StopsEarly()] = tuple(
        map(measure_of, DEFAULT)
    )
    loss: LossName = "cross-entropy"
    dtype: Literal["float64", "float32"] = "float64"
    seed: Seed = 0


def _named(protocol: Any) -> Any:
    """Replace the name of a protocol of the package by its fields."""
    if not isinstance(protocol, str):
        return protocol
    try:
        return named(protocol)
    except InvalidInput as error:
        raise ValueError(error.remedy.removesuffix(".")) from None


_FILES = ("inputs_file", "labels_file")
_DEEPEST = 8  # levels of lists and objects in a value of an axis


class ExperimentRequest(Specification):
    """A study over all combinations of some axes' values: quantities of each network, or frequencies of functions.

    Attributes:
        protocol: protocol of the study, or the name of a protocol of the package. Its data are a data set.
    """

    work: ClassVar[str] = "experiments"
    protocol: Annotated[AnyProtocol, BeforeValidator(_named), OrNamed(tuple(names()))]

    @field_validator("protocol")
    @classmethod
    def _is_self_contained(cls, protocol: Protocol | FrequencyProtocol) -> Protocol | FrequencyProtocol:
        """Refuse files, which are on another machine, and values of axes that JSON cannot have."""
        data = protocol.data
        for name in _FILES:
            given = getattr(data, name) or protocol.axes.get(f"data.{name}")
            if given is not None:
                remedy = "Leave it out, and name a data set or give its inputs (kind inline): requests have no files"
                raise _at(("data", name), given, remedy)
        if data.dataset is None:
            raise _at(("data", "dataset"), None, "Name a data set, or give its inputs (kind inline)")
        if protocol.training is not None and data.dataset.n is None:
            raise _at(("data", "dataset", "n"), None, "Give the number of inputs to train on")
        for axis, values in protocol.axes.items():
            if not all(_is_plain(value) for value in values):
                remedy = f"Give finite numbers, texts, or objects of at most {_DEEPEST} levels"
                raise _at(("axes", axis), values, remedy)
        return protocol

    @property
    def dataset(self) -> Dataset:
        """Data set of the networks, unless an axis varies it."""
        assert self.protocol.data.dataset is not None
        return self.protocol.data.dataset

    @property
    def architecture(self) -> Architecture:
        """Architecture of the networks, unless an axis varies it."""
        return self.protocol.architecture


def _at(location: tuple[str, ...], value: Any, remedy: str) -> ValidationError:
    """Return an error of a field within the protocol."""
    error = PydanticCustomError("value_error", "{remedy}", {"remedy": remedy})
    return ValidationError.from_exception_data("protocol", [{"type": error, "loc": location, "input": value}])


def _is_plain(value: Any, levels: int = _DEEPEST) -> bool:
    match value:
        case dict() | list() | tuple():
            parts = value.values() if isinstance(value, dict) else value
            return levels > 0 and all(_is_plain(part, levels - 1) for part in parts)
        case float():
            return math.isfinite(value)
        case _:
            return value is None or isinstance(value, str | int)
