"""What results are read as, by the kind of their job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from nngp_prior.schemas.bound_result import BoundResult, BoundResults
from nngp_prior.schemas.posterior_result import PosteriorResult, PosteriorResults
from nngp_prior.schemas.request import BoundRequest, EstimateRequest, PosteriorRequest, SampleRequest, SharpnessRequest
from nngp_prior.schemas.result import Result, Results
from nngp_prior.schemas.sample_result import Samples
from nngp_prior.schemas.sharpness_result import SharpnessResult, SharpnessResults


class Kind(NamedTuple):
    """How to read results.

    Attributes:
        unit: what a row is.
        one: reads a row.
        all: reads all rows, in their order, and what stands above them.
    """

    unit: str
    one: Callable[[dict[str, Any]], Any]
    all: Callable[[list[dict[str, Any]], dict[str, Any]], Any]


_ESTIMATES = Kind("labellings", Result, Results)
_KINDS = {
    EstimateRequest.work: _ESTIMATES,
    BoundRequest.work: Kind("labellings", BoundResult, BoundResults),
    PosteriorRequest.work: Kind("labellings", PosteriorResult, PosteriorResults),
    SampleRequest.work: Kind("samples", Samples, lambda rows, about: Samples(rows[0], about)),
    SharpnessRequest.work: Kind("measures", SharpnessResult, SharpnessResults),
}


def kind_of(work: str) -> Kind:
    """How results are read.

    Args:
        work: the job's kind.

    Returns:
        that of estimates for one that this client does not know.
    """
    return _KINDS.get(work, _ESTIMATES)
