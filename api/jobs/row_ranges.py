"""Sets of rows in few words: 100,000 rows of a job are one range, not 100,000 numbers."""

from __future__ import annotations

from collections.abc import Container, Iterable

Ranges = list[list[int]]
"""Half-open ranges ``[first, after the last]``, in order and apart."""


def ranges_of(rows: Iterable[int]) -> Ranges:
    """Rows as ranges.

    Args:
        rows: in any order.

    Returns:
        the fewest ranges.
    """
    ranges: Ranges = []
    for row in sorted(rows):
        if ranges and ranges[-1][1] == row:
            ranges[-1][1] += 1
        else:
            ranges.append([row, row + 1])
    return ranges


def rows_of(ranges: Ranges, without: Container[int] = ()) -> list[int]:
    """Ranges as rows.

    Args:
        ranges: as :func:`ranges_of` makes them.
        without: rows to leave out.

    Returns:
        the others, in order.
    """
    return [row for first, end in ranges for row in range(first, end) if row not in without]
