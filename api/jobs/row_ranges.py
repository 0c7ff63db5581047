"""Compact sets of rows: 100,000 rows of a job are one range, not 100,000 numbers."""

from __future__ import annotations

from collections.abc import Container, Iterable

Ranges = list[list[int]]
"""Half-open ranges of two integers, the first row and the last plus 1; sorted and separated by gaps."""


def ranges_of(rows: Iterable[int]) -> Ranges:
    """Convert rows to ranges.

    Args:
        rows: row indices in any order.

    Returns:
        the fewest possible ranges.
    """
    ranges: Ranges = []
    for row in sorted(rows):
        if ranges and ranges[-1][1] == row:
            ranges[-1][1] += 1
        else:
            ranges.append([row, row + 1])
    return ranges


def rows_of(ranges: Ranges, without: Container[int] = ()) -> list[int]:
    """Convert ranges to rows.

    Args:
        ranges: ranges from :func:`ranges_of`.
        without: rows to omit.

    Returns:
        the other rows, in order.
    """
    return [row for first, end in ranges for row in range(first, end) if row not in without]
