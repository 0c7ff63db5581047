"""Results as JSON has them: one form for the command line, the service and its clients."""

from __future__ import annotations

import math
from typing import Any

from nngp_prior.schemas.estimate import Estimate

LEVEL, DELTA = 0.95, 0.01  # of intervals and lower bounds, where nobody asked for others


def row_of(index: int, estimate: Estimate, level: float = LEVEL, delta: float = DELTA) -> dict[str, Any]:
    """One result.

    Args:
        index: of the labelling in its request.
        estimate: of it.
        level: of the interval.
        delta: of the lower bound.

    Returns:
        what JSON can hold, in nats.
    """
    interval, bound = estimate.interval(level), estimate.lower_bound(delta)
    return {
        "labelling": index,
        "method": estimate.method,
        "log_p": finite(estimate.value),
        "stderr": finite(estimate.stderr),
        "interval": None if interval is None else finite(list(interval)),
        "lower_bound": None if bound is None else {"delta": delta, "log_p": finite(bound)},
        "status": estimate.status,
        "message": estimate.message,
        "diagnostics": finite(estimate.model_dump(mode="json", include={"diagnostics"})["diagnostics"]),
        "seconds": round(estimate.seconds, 3),
    }


def refused_row(index: int, status: str, message: str) -> dict[str, Any]:
    """The result of a labelling that has no estimate.

    Args:
        index: of the labelling in its request.
        status: ``invalid-labels``, ``worker-crashed``, …
        message: what is wrong, and what to do.

    Returns:
        as :func:`row_of`, without numbers.
    """
    return {"labelling": index, "log_p": None, "stderr": None, "status": status, "message": message}


def finite(value: Any) -> Any:
    """The same with strings for infinities and NaN, for which JSON has no numbers."""
    match value:
        case dict():
            return {key: finite(part) for key, part in value.items()}
        case list() | tuple():
            return [finite(part) for part in value]
        case float() if math.isnan(value):
            return "NaN"
        case float() if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        case _:
            return value
