"""Kinds of work, one module each. Each kind registered here gets a route, an OpenAPI schema, and jobs."""

from __future__ import annotations

from typing import Any

from api.work.base import Chunk, Limits, Plan, Work
from api.work.bounds import BoundWork
from api.work.estimates import EstimateWork
from api.work.experiments import ExperimentWork
from api.work.kernels import KernelWork
from api.work.posteriors import PosteriorWork
from api.work.samples import SampleWork
from api.work.selections import SelectionWork
from api.work.sharpness import SharpnessWork

__all__ = ["WORK", "Chunk", "Limits", "Plan", "Work"]

WORK: dict[str, Work[Any]] = {
    work.kind: work
    for work in (
        EstimateWork(),
        KernelWork(),
        BoundWork(),
        PosteriorWork(),
        SelectionWork(),
        SampleWork(),
        SharpnessWork(),
        ExperimentWork(),
    )
}
