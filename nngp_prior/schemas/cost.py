"""Cost of a computation; times, sizes and numbers of things as text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Expected cost of a computation.

    Attributes:
        bytes: peak memory.
        seconds: time on this machine's cores.
    """

    bytes: int
    seconds: float

    def __str__(self) -> str:
        return f"about {duration(self.seconds)}, {size(self.bytes)}"


def number_of(count: int, noun: str) -> str:
    """Format a number of things.

    Args:
        count: the number.
        noun: in the singular; its plural ends in s.

    Returns:
        text such as ``1 network`` or ``1,000 networks``.
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: int | float) -> str:
    """Format a time with two or three significant digits.

    Args:
        seconds: the time.

    Returns:
        text such as ``0.35 s``, ``95 s``, ``12 min`` or ``3.4 h``.
    """
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (float("inf"), 3600, "h")):
        if seconds < limit:
            value = seconds / unit
            return f"{value:,.0f} {name}" if value >= 9.95 else f"{value:.2g} {name}"
    return "∞"


def size(count: int | float) -> str:
    """Format a number of bytes with three significant digits.

    Args:
        count: number of bytes.

    Returns:
        text such as ``512 B`` or ``1.25 GB``.
    """
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"
