"""What results are read as, by the kind of their job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from nngp_prior.schemas.requests import BoundRequest, EstimateRequest, PosteriorRequest, SampleRequest, SharpnessRequest
from nngp_prior.schemas.results.base import Result, Results
from nngp_prior.schemas.results.bound import BoundResult, BoundResults
from nngp_prior.schemas.results.posterior import PosteriorResult, PosteriorResults
from nngp_prior.schemas.results.sample import Samples
from nngp_prior.schemas.results.sharpness import SharpnessResult, SharpnessResults


class ResultReader(NamedTuple):
    """How to read results.

    Attributes:
        unit: what a row is.
        one: reads a row.
        all: reads all rows, in their order, and what stands above them.
    """

    unit: str
    one: Callable[[dict[str, Any]], Any]
    all: Callable[[list[dict[str, Any]], dict[str, Any]], Any]


_ESTIMATES = ResultReader("labellings", Result, Results)
_KINDS = {
    EstimateRequest.work: _ESTIMATES,
    BoundRequest.work: ResultReader("labellings", BoundResult, BoundResults),
    PosteriorRequest.work: ResultReader("labellings", PosteriorResult, PosteriorResults),
    SampleRequest.work: ResultReader("samples", Samples, lambda rows, about: Samples(rows[0], about)),
    SharpnessRequest.work: ResultReader("measures", SharpnessResult, SharpnessResults),
}


def reader_of(work: str) -> ResultReader:
    """How results are read.

    Args:
        work: the job's kind.

    Returns:
        that of estimates for one that this client does not know.
    """
    return _KINDS.get(work, _ESTIMATES)
