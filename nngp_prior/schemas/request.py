"""What is asked for as a whole, over HTTP and in process."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nngp_prior.schemas.architecture import Architecture, FullyConnected
from nngp_prior.schemas.base import Specification
from nngp_prior.schemas.data import BlobData, BlobLabellings, Dataset, Labelling
from nngp_prior.schemas.estimator import SMC, Estimator

RequestDataset = Annotated[Dataset | BlobData, Field(discriminator="kind")]
RequestLabelling = Annotated[Labelling | BlobLabellings, Field(discriminator="kind")]


class KernelRequest(Specification):
    """A kernel matrix: of an architecture on a data set.

    Attributes:
        architecture: of the network.
        dataset: its inputs.
        get: the covariances of outputs, or the neural tangent kernel.
        dtype: of the computation and of the matrix.
    """

    architecture: Architecture = FullyConnected(depth=2)
    dataset: RequestDataset
    get: Literal["nngp", "ntk"] = "nngp"
    dtype: Literal["float64", "float32"] = "float64"


class EstimateRequest(Specification):
    """log P of labellings of a data set under the prior of an infinitely wide network.

    Attributes:
        architecture: of the network.
        dataset: its inputs.
        labellings: of the inputs; an uploaded array stands for as many as it has rows.
        estimator: and its options.
        seed: of the estimator's random numbers.
    """

    architecture: Architecture = FullyConnected(depth=2)
    dataset: RequestDataset
    labellings: Annotated[tuple[RequestLabelling, ...], Field(min_length=1)]
    estimator: Estimator = SMC()
    seed: int = 0
