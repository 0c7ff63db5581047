"""Human-readable text: counts, times, sizes, one-line representations, CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import islice
from typing import Any

_LONGEST = 60  # maximal number of characters of a value
_TOKENS = 10  # tokens per character, at most


def number_of(count: int, noun: str) -> str:
    """Format a number of things.

    Args:
        count: the number.
        noun: singular noun; its plural ends in s.

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


def nats(value: float | None, stderr: float | None = None, show_error: bool = True) -> str:
    """Format a log probability with as many digits as its error warrants, and optionally the error."""
    if value is None or math.isnan(value):
        return "–"
    if abs(value) == float("inf"):
        return "-∞" if value < 0 else "∞"
    if stderr is None or stderr == float("inf"):
        return f"{value:.2f}" + (" ± ∞" if stderr is not None and show_error else "")
    if stderr == 0:
        return f"{value:.6f}"
    digits = 2
    while stderr < 10.0 ** (1 - digits) and digits < 8:
        digits += 1
    return f"{value:.{digits}f}" + (f" ± {stderr:.{digits}f}" if show_error else "")


def one_line(thing: Any) -> str:
    """One-line ``repr`` of a dataclass or named tuple: arrays by type and shape, long values shortened.

    Args:
        thing: the object.

    Returns:
        text such as ``Start(labels=float64(500,), precision=float64(500,), shift=float64(500,))``.
    """
    names = [field.name for field in fields(thing)] if is_dataclass(thing) else thing._fields
    return f"{type(thing).__name__}({', '.join(f'{name}={short(getattr(thing, name))}' for name in names)})"


def short(value: Any, longest: int = _LONGEST) -> str:
    """One-line ``repr`` of a value.

    Args:
        value: any value; an array is shown by type and shape.
        longest: maximal number of characters.

    Returns:
        at most ``longest`` characters; a longer text is shortened in the middle.
    """
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{tuple(value.shape)}"
    if isinstance(value, tuple | list) and any(hasattr(part, "shape") for part in value):
        return f"[{', '.join(map(short, value[:3]))}{', …' if len(value) > 3 else ''}]"
    tokens = _tokens(value, longest)  # of megabytes only as much as needed is formatted
    text = " ".join("".join(islice(tokens, _TOKENS * longest)).split())
    if next(tokens, None) is not None:
        return f"{text[: longest - 2]} …"
    return text if len(text) <= longest else f"{text[: longest - 20]} … {text[-16:]}"


def _tokens(value: Any, longest: int) -> Iterator[str]:
    """Parts of the ``repr`` of a value, none much longer than ``longest`` characters."""
    if isinstance(value, str) and len(value) > 2 * longest:
        yield repr(value[:longest] + value[-longest:])
    elif type(value) in (list, tuple):
        yield "[" if type(value) is list else "("
        for i, part in enumerate(value):
            yield ", " if i else ""
            yield from _tokens(part, longest)
        yield "]" if type(value) is list else ",)" if len(value) == 1 else ")"
    elif type(value) is dict:
        yield "{"
        for i, (name, part) in enumerate(value.items()):
            yield f"{', ' if i else ''}{next(_tokens(name, longest))}: "
            yield from _tokens(part, longest)
        yield "}"
    else:
        yield repr(value)


def differing(own: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """Format the options that distinguish a specification from others of its kind.

    Args:
        own: options of the specification.
        others: options of the others.

    Returns:
        text such as ``epsilon=0.001, layer=dense 1``; empty if no option differs.
    """
    return ", ".join(
        f"{name}={value}" for name, value in own.items() if any(other.get(name) != value for other in others)
    )


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format rows as CSV, with the columns of all rows in order of first appearance.

    Args:
        rows: values by column.

    Returns:
        a heading, and a line per row.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
