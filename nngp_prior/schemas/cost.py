"""What some work takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What some work would take: peak memory, and time on two cores."""

    bytes: int
    seconds: float
