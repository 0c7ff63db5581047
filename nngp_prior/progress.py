"""How numerical code tells how far it is: one typed event, one callback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` units of a named stage; ``done == total`` ends it."""

    stage: str
    done: int
    total: int


ProgressCallback = Callable[[Progress], None]


def ignore(_: Progress) -> None:
    """The callback of those who do not want to know."""
