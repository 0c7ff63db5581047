"""Readers of results, by kind of job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from nngp_prior.schemas.requests import (
    BoundRequest,
    EstimateRequest,
    ExperimentRequest,
    PosteriorRequest,
    SampleRequest,
    SelectionRequest,
    SharpnessRequest,
)
from nngp_prior.schemas.results.base import Result, Results
from nngp_prior.schemas.results.bound import BoundResult, BoundResults
from nngp_prior.schemas.results.experiment import TaskResult
from nngp_prior.schemas.results.frequencies import results_of_study
from nngp_prior.schemas.results.posterior import PosteriorResult, PosteriorResults
from nngp_prior.schemas.results.sample import Samples
from nngp_prior.schemas.results.selection import CandidateResult, Selection
from nngp_prior.schemas.results.sharpness import SharpnessResult, SharpnessResults


class ResultReader(NamedTuple):
    """Reader of results.

    Attributes:
        unit: name of the rows.
        one: function that reads a row.
        all: function that reads all rows, in order, and the part of the document above them.
    """

    unit: str
    one: Callable[[dict[str, Any]], Any]
    all: Callable[[list[dict[str, Any]], dict[str, Any]], Any]


_ESTIMATES = ResultReader("labellings", Result, Results)
_KINDS = {
    EstimateRequest.work: _ESTIMATES,
    BoundRequest.work: ResultReader("labellings", BoundResult, BoundResults),
    PosteriorRequest.work: ResultReader("labellings", PosteriorResult, PosteriorResults),
    SelectionRequest.work: ResultReader("candidates", CandidateResult, Selection.of_rows),
    SampleRequest.work: ResultReader("samples", Samples, lambda rows, about: Samples(rows[0], about)),
    SharpnessRequest.work: ResultReader("measures", SharpnessResult, SharpnessResults),
    ExperimentRequest.work: ResultReader("tasks", TaskResult, results_of_study),
}


def reader_of(work: str) -> ResultReader:
    """Return the reader of results.

    Args:
        work: kind of the job.

    Returns:
        the reader; that of estimates for an unknown kind.
    """
    return _KINDS.get(work, _ESTIMATES)
