"""Functions as rows of bits: packed, counted, merged. Full comparison of rows makes hash collisions harmless."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int8, Integer, UInt8, UInt64

_WORD = 8  # bytes hashed at a time
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd: no two words have the same product
_WAITING = 2**18  # minimum number of pending rows before they are sorted


def pack(positive: Bool[np.ndarray, "m n"]) -> UInt8[np.ndarray, "m bytes"]:
    """Pack signs into bits, the first input's first; the remaining bits of the last byte are 0.

    Args:
        positive: True for +1.

    Returns:
        eight signs per byte.
    """
    return np.packbits(positive, axis=1)


def unpack(packed: UInt8[np.ndarray, "m bytes"], n: int) -> Int8[np.ndarray, "m n"]:
    """Return the labels -1 and +1 packed by :func:`pack`.

    Args:
        packed: rows of bits.
        n: number of inputs.

    Returns:
        one labelling per row.
    """
    return (2 * np.unpackbits(packed, axis=1, count=n).astype(np.int8) - 1).astype(np.int8)


def hashed(packed: UInt8[np.ndarray, "m bytes"]) -> UInt64[np.ndarray, " m"]:
    """Hash each row, for sorting; distinct rows collide once in 2⁶⁴ pairs.

    Args:
        packed: rows of bits.

    Returns:
        one number per row.
    """
    h = np.zeros(len(packed), dtype=np.uint64)
    for word in _words(packed):
        h ^= word
        h *= _MULTIPLIER
        h ^= h >> np.uint64(32)
    return h


def _words(packed: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows' 64-bit words, zero-padded: the first word of all rows first."""
    for start in range(0, packed.shape[1], _WORD):
        part = np.zeros((len(packed), _WORD), dtype=np.uint8)
        part[:, : packed.shape[1] - start] = packed[:, start : start + _WORD]
        yield part.view(np.uint64)[:, 0]


def counted(
    packed: UInt8[np.ndarray, "m bytes"], counts: Integer[np.ndarray, " m"]
) -> tuple[UInt8[np.ndarray, "k bytes"], Integer[np.ndarray, " k"]]:
    """Merge equal rows, adding their counts.

    Args:
        packed: rows of bits.
        counts: number of draws of each row.

    Returns:
        distinct rows in an order that depends only on the rows, and their counts.
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
    """Mark sorted rows that differ from the one before; also return whether any of these has the same hash as it."""
    same = np.flatnonzero(h[1:] == h[:-1])
    differing = (packed[same] != packed[same + 1]).any(axis=1)
    new = np.ones(len(h), dtype=bool)
    new[same[~differing] + 1] = False
    return new, bool(differing.any())


def ranked(
    packed: UInt8[np.ndarray, "m bytes"], counts: Integer[np.ndarray, " m"]
) -> tuple[UInt8[np.ndarray, "m bytes"], Integer[np.ndarray, " m"]]:
    """Sort rows by descending count; equal counts keep their order.

    Args:
        packed: distinct rows.
        counts: count of each row.

    Returns:
        rows and counts in their new order.
    """
    order = np.argsort(-counts, kind="stable")
    return packed[order], counts[order]


class Tally:
    """Running counts of drawn functions: merged rows, and pending rows that have not been merged yet.

    Rows stay pending until there are half as many of them as merged ones, so that a row is sorted about three times.

    Args:
        size: bytes per row.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._parts = [(np.empty((0, size), np.uint8), np.empty(0, np.int64))]

    def add(self, packed: UInt8[np.ndarray, "m bytes"], counts: Integer[np.ndarray, " m"]) -> None:
        """Count rows.

        Args:
            packed: rows of bits, in any order.
            counts: number of draws of each row.
        """
        self._parts.append((packed, counts))
        different = len(self._parts[0][0])
        if self.rows - different > max(_WAITING, different // 2):
            self.total()

    def total(self) -> tuple[UInt8[np.ndarray, "m bytes"], Integer[np.ndarray, " m"]]:
        """Return all counts so far.

        Returns:
            distinct rows in the order of :func:`counted`, and their counts.
        """
        if len(self._parts) > 1:
            packed, counts = (np.concatenate(column) for column in zip(*self._parts, strict=True))
            self._parts = [counted(packed, counts)]
        return self._parts[0]

    @property
    def rows(self) -> int:
        """Number of rows that the next sort would process."""
        return sum(len(packed) for packed, _ in self._parts)
