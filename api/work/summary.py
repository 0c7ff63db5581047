"""Short descriptions of requests, for lists of jobs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from api.work.base import Plan
from nngp_prior.schemas.base import Specification
from nngp_prior.schemas.requests import (
    EstimateRequest,
    ExperimentRequest,
    KernelRequest,
    SampleRequest,
    SelectionRequest,
    SharpnessRequest,
)

SUMMARY = ("data", "n", "architecture", "method", "cost")
_LONGEST = 120  # characters
_HASH = 8  # leading characters of a hash that are shown


def summary_of(request: Any, plan: Plan) -> dict[str, Any]:
    """Return the parts of a request that identify it, and its expected cost.

    Args:
        request: request of any kind of work.
        plan: its plan.

    Returns:
        values by the names in :data:`SUMMARY`.
    """
    match request:
        case EstimateRequest() | SelectionRequest():
            method = request.estimator.kind
        case KernelRequest():
            method = request.get
        case SampleRequest():
            method = request.source
        case SharpnessRequest():
            method = ", ".join(dict.fromkeys(measure.kind for measure in request.measures))
        case ExperimentRequest():
            method = request.protocol.name
        case _:
            method = None
    data = brief(request.dataset, {"n"})
    family = request.family if isinstance(request, SelectionRequest) else (request.architecture,)
    return {
        "data": data,
        "n": plan.facts["n"],
        "architecture": _short(", ".join(map(brief, family))),
        "method": method and _short(method),
        "cost": {"bytes": plan.bytes, "seconds": round(plan.seconds, 3)},
    }


def brief(specification: Specification, without: Collection[str] = ()) -> str:
    """Return a specification in one line: its kind and its non-default fields.

    Args:
        specification: specification with a kind.
        without: names of fields to omit.

    Returns:
        text such as ``fully-connected(depth=3)``; long values are replaced by their number of parts.
    """
    parts = []
    for name, field in type(specification).model_fields.items():
        value = getattr(specification, name)
        if name in {"kind", *without} or value == field.get_default(call_default_factory=True):
            continue
        if name == "sha256":
            value = str(value)[:_HASH]
        if isinstance(value, Specification):
            value = brief(value)
        parts.append(f"{name}={len(value) if isinstance(value, tuple) else value}")
    kind = getattr(specification, "kind", type(specification).__name__)
    return _short(f"{kind}({', '.join(parts)})" if parts else kind)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
