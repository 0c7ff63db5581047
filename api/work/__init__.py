"""Kinds of work; one module each. What is registered here has a route, a schema in OpenAPI, and jobs."""

from __future__ import annotations

from typing import Any

from api.work.base import Chunk, Limits, Plan, Work
from api.work.bounds import Bounds
from api.work.estimates import Estimates
from api.work.kernels import Kernels
from api.work.posteriors import Posteriors
from api.work.samples import Samples
from api.work.sharpness import Sharpness

__all__ = ["WORK", "Chunk", "Limits", "Plan", "Work"]

WORK: dict[str, Work[Any]] = {
    work.kind: work for work in (Estimates(), Kernels(), Bounds(), Posteriors(), Samples(), Sharpness())
}
