"""Functions as rows of bits: packed, counted, merged. Rows are compared in full, so that no two are ever confused."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int8, Integer, UInt8, UInt64

_WORD = 8  # bytes that are hashed at a time
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd: no two words have the same product
_WAITING = 2**18  # rows that wait at least


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


def hashed(packed: UInt8[np.ndarray, "m bytes"]) -> UInt64[np.ndarray, " m"]:
    """A number for each row, by which rows are sorted; different rows may, once in 2⁶⁴ pairs, have the same.

    Args:
        packed: rows of bits.

    Returns:
        one number a row.
    """
    h = np.zeros(len(packed), dtype=np.uint64)
    for word in _words(packed):
        h ^= word
        h *= _MULTIPLIER
        h ^= h >> np.uint64(32)
    return h


def _words(packed: np.ndarray) -> Iterator[np.ndarray]:
    """Rows as numbers of 64 bits, filled up with zeros: the first of all rows first."""
    for start in range(0, packed.shape[1], _WORD):
        part = np.zeros((len(packed), _WORD), dtype=np.uint8)
        part[:, : packed.shape[1] - start] = packed[:, start : start + _WORD]
        yield part.view(np.uint64)[:, 0]


def counted(
    packed: UInt8[np.ndarray, "m bytes"], counts: Integer[np.ndarray, " m"]
) -> tuple[UInt8[np.ndarray, "k bytes"], Integer[np.ndarray, " k"]]:
    """Equal rows as one, with the sum of their counts.

    Args:
        packed: rows of bits.
        counts: how often each was seen.

    Returns:
        different rows in an order that depends on nothing but themselves, and their counts.
    """
    if len(packed) == 0:
        return packed, counts
    h = hashed(packed)
    order = np.argsort(h)
    new, collision = _changes(h[order], packed[order])
    if collision:
        order = np.lexsort((*_words(packed), h))
        new, _ = _changes(h[order], packed[order])
    starts = np.flatnonzero(new)
    return packed[order[starts]], np.add.reduceat(counts[order], starts)


def _changes(h: np.ndarray, packed: np.ndarray) -> tuple[np.ndarray, bool]:
    """Which sorted rows differ from the one before, and whether some do that have the same hash."""
    same = np.flatnonzero(h[1:] == h[:-1])
    non_default = (packed[same] != packed[same + 1]).any(axis=1)
    new = np.ones(len(h), dtype=bool)
    new[same[~non_default] + 1] = False
    return new, bool(non_default.any())


def ranked(
    packed: UInt8[np.ndarray, "m bytes"], counts: Integer[np.ndarray, " m"]
) -> tuple[UInt8[np.ndarray, "m bytes"], Integer[np.ndarray, " m"]]:
    """Rows by falling count; equal counts keep their order.

    Args:
        packed: different rows.
        counts: of each.

    Returns:
        rows and counts in their new order.
    """
    order = np.argsort(-counts, kind="stable")
    return packed[order], counts[order]


class Tally:
    """Counts of functions while they are drawn: different rows, and rows that wait for being sorted together with them.

    They wait until there are half as many of them, so that a row is sorted about three times.

    Args:
        size: bytes of a row.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._parts = [(np.empty((0, size), np.uint8), np.empty(0, np.int64))]

    def add(self, packed: UInt8[np.ndarray, "m bytes"], counts: Integer[np.ndarray, " m"]) -> None:
        """Count rows.

        Args:
            packed: rows of bits, in any order.
            counts: how often each was seen.
        """
        self._parts.append((packed, counts))
        different = len(self._parts[0][0])
        if self.rows - different > max(_WAITING, different // 2):
            self.total()

    def total(self) -> tuple[UInt8[np.ndarray, "m bytes"], Integer[np.ndarray, " m"]]:
        """All that was counted.

        Returns:
            different rows in the order of :func:`counted`, and their counts.
        """
        if len(self._parts) > 1:
            packed, counts = (np.concatenate(column) for column in zip(*self._parts, strict=True))
            self._parts = [counted(packed, counts)]
        return self._parts[0]

    @property
    def rows(self) -> int:
        """Those that the next sorting would have to sort."""
        return sum(len(packed) for packed, _ in self._parts)
