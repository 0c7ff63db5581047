"""What carries measures out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nngp_prior.progress import ProgressCallback
from nngp_prior.registry import Registry
from nngp_prior.schemas.results.sharpness import Status
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk


@dataclass(frozen=True)
class Quantity:
    """One figure of a measure; see :class:`nngp_prior.schemas.measures.curvature.Measurement`."""

    name: str
    value: float
    stderr: float | None = None
    status: Status = "ok"
    message: str = ""
    diagnostics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MeasureOutcome:
    """What a measure found.

    Attributes:
        quantities: its figures.
        gradients: what all of them took, in gradients of the whole data set; a Hessian product counts as two, a loss
            without its gradient as a third.
    """

    quantities: list[Quantity]
    gradients: int | float


# (risk, specification, seed, progress) -> outcome. Random numbers come from the seed, which is the measure's own.
Implementation = Callable[[EmpiricalRisk, Any, int, ProgressCallback], MeasureOutcome]
MEASURES: Registry[Implementation] = Registry()

# (risk, specification): raises InvalidInput where the measure cannot be taken of the risk, before any is.
CHECKS: Registry[Callable[[EmpiricalRisk, Any], None]] = Registry()
