"""Kinds of work; one module each. What is registered here has a route, a schema in OpenAPI, and jobs."""

from __future__ import annotations

from typing import Any

from api.work.base import Chunk, Plan, Work
from api.work.estimates import Estimates

__all__ = ["WORK", "Chunk", "Plan", "Work"]

WORK: dict[str, Work[Any]] = {work.kind: work for work in (Estimates(),)}
