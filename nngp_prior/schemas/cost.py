"""Cost of a computation."""

from __future__ import annotations

from dataclasses import dataclass

from nngp_prior.schemas.text import duration, size


@dataclass(frozen=True)
class Cost:
    """Expected cost of a computation.

    Attributes:
        bytes: peak memory in bytes.
        seconds: time in seconds on the cores of this machine.
    """

    bytes: int
    seconds: float

    def __str__(self) -> str:
        return f"about {duration(self.seconds)}, {size(self.bytes)}"
