"""Content negotiation by ``Accept`` (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers


def preferred(accept: str, offered: Sequence[str]) -> str | None:
    """Choose a media type.

    Args:
        accept: value of the header; empty if there is none.
        offered: available media types, the preferred first.

    Returns:
        the media type with the highest quality, the first if several; None if none is acceptable.
    """
    ranges = [_range(part) for part in accept.split(",") if part.strip()] or [("*/*", 1.0)]
    best = max(offered, key=lambda kind: _quality(kind, ranges))  # the first if several
    return best if _quality(best, ranges) > 0 else None


def _quality(kind: str, ranges: Sequence[tuple[str, float]]) -> float:
    """Return the quality of the most specific matching range."""
    for wider in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
        found = [quality for name, quality in ranges if name == wider]
        if found:
            return max(found)
    return 0.0


def _range(part: str) -> tuple[str, float]:
    name, *parameters = (each.strip().lower() for each in part.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return name, min(max(float(value), 0.0), 1.0)
            except ValueError:
                return name, 0.0
    return name, 1.0


def accepted(headers: Headers) -> str:
    """Return the ``Accept`` header of a request, several headers joined."""
    return ",".join(headers.getlist("accept"))
