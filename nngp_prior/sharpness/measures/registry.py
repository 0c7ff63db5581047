"""Registry of measure implementations."""

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
    """One quantity of a measure; see :class:`nngp_prior.schemas.results.sharpness.Measurement`."""

    name: str
    value: float
    stderr: float | None = None
    status: Status = "ok"
    message: str = ""
    diagnostics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MeasureOutcome:
    """Result of a measure.

    Attributes:
        quantities: quantities of the measure.
        gradients: total cost, in gradients of the whole data set; a Hessian product counts as two, a loss without its
            gradient as a third.
    """

    quantities: list[Quantity]
    gradients: int | float


# (risk, specification, seed, progress) -> outcome. The seed is specific to the measure.
Implementation = Callable[[EmpiricalRisk, Any, int, ProgressCallback], MeasureOutcome]
MEASURES: Registry[Implementation] = Registry()

# (risk, specification): raises InvalidInput if the measure does not apply to the risk, before any is computed.
CHECKS: Registry[Callable[[EmpiricalRisk, Any], None]] = Registry()
