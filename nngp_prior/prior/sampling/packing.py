"""Functions as rows of bits: packed, counted, merged. Rows are compared in full, so that no two are ever confused."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int8, Integer, UInt8, UInt64

_WORD = 8  # bytes that are compared at a time


def pack(positive: Bool[np.ndarray, "m n"]) -> UInt8[np.ndarray, "m bytes"]:
    """Signs as bits, the first input's first; what is left of the last byte is 0.

    Args:
        positive: True for +1.

    Returns:
        eight signs a byte.
    """
    return np.packbits(positive, axis=1)


def unpack(packed: UInt8[np.ndarray, "m bytes"], n: int) -> Int8[np.ndarray, "m n"]:
    """The labels -1 and +1 that :func:`pack` packed.

    Args:
        packed: rows of bits.
        n: number of inputs.

    Returns:
        one labelling a row.
    """
    return (2 * np.unpackbits(packed, axis=1, count=n).astype(np.int8) - 1).astype(np.int8)


def words(packed: UInt8[np.ndarray, "m bytes"]) -> UInt64[np.ndarray, "words m"]:
    """Rows as numbers of 64 bits, filled up with zeros; they have the same order as the rows' bytes.

    Args:
        packed: rows of bits.

    Returns:
        one row a word, most significant first.
    """
    m, size = packed.shape
    padded = np.zeros((m, -(-size // _WORD) * _WORD), dtype=np.uint8)
    padded[:, :size] = packed
    return np.ascontiguousarray(padded.view(">u8").astype(np.uint64).T)


def counted(
    packed: UInt8[np.ndarray, "m bytes"], counts: Integer[np.ndarray, " m"]
) -> tuple[UInt8[np.ndarray, "k bytes"], Integer[np.ndarray, " k"]]:
    """Equal rows as one, with the sum of their counts.

    Args:
        packed: rows of bits.
        counts: how often each was seen.

    Returns:
        different rows in the order of their bytes, and their counts.
    """
    if len(packed) == 0:
        return packed, counts.astype(np.int64)
    columns = words(packed)
    order = np.argsort(columns[0], kind="stable") if len(columns) == 1 else np.lexsort(columns[::-1])
    new = np.ones(len(packed), dtype=bool)
    new[1:] = False
    for column in columns:
        ordered = column[order]
        new[1:] |= ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(new)
    return packed[order[starts]], np.add.reduceat(counts[order].astype(np.int64), starts)


def ranked(
    packed: UInt8[np.ndarray, "m bytes"], counts: Integer[np.ndarray, " m"]
) -> tuple[UInt8[np.ndarray, "m bytes"], Integer[np.ndarray, " m"]]:
    """Rows by falling count.

    Args:
        packed: different rows in the order of their bytes, which equal counts keep.
        counts: of each.

    Returns:
        rows and counts in their new order.
    """
    order = np.argsort(-counts, kind="stable")
    return packed[order], counts[order]


class Tally:
    """Counts of functions while they are drawn: runs of different rows, each run more than twice as long as the next.

    So a row is sorted a logarithmic number of times, and at most twice the number of different rows is in memory.

    Args:
        size: bytes of a row.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._runs: list[tuple[np.ndarray, np.ndarray]] = [(np.empty((0, size), np.uint8), np.empty(0, np.int64))]

    def add(self, packed: UInt8[np.ndarray, "m bytes"], counts: Integer[np.ndarray, " m"] | None = None) -> None:
        """Count rows.

        Args:
            packed: rows of bits, in any order.
            counts: how often each was seen; once when absent.
        """
        self._runs.append(counted(packed, np.ones(len(packed), np.int64) if counts is None else counts))
        while len(self._runs) > 1 and len(self._runs[-2][0]) <= 2 * len(self._runs[-1][0]):
            self._merge(2)

    def total(self) -> tuple[UInt8[np.ndarray, "m bytes"], Integer[np.ndarray, " m"]]:
        """All that was counted.

        Returns:
            different rows in the order of their bytes, and their counts.
        """
        self._merge(len(self._runs))
        return self._runs[0]

    def pending(self) -> int:
        """Rows that the next merges may have to sort together, at most."""
        return sum(len(packed) for packed, _ in self._runs)

    def _merge(self, last: int) -> None:
        if last > 1:
            parts = self._runs[-last:]
            del self._runs[-last:]
            self._runs.append(counted(*(np.concatenate(column) for column in zip(*parts, strict=True))))
