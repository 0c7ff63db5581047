"""Which tiles of a file are finished: a small file beside it, which describes it too.

``K.npy.tiles`` has a line of JSON and its CRC-32, then eight characters a tile: the CRC-32 of a finished one in
hexadecimal, or dashes. A tile is marked, by one write of eight bytes, after its data are on the disk. A ledger with a
damaged line is none, and a damaged mark is that of a tile to compute again.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Float

from nngp_prior.kernels.tiles import Grid, Tile

_FORMAT = 2
_OPEN = b"-" * 8
_MARK = re.compile(rb"[0-9a-f]{8}")


@dataclass(frozen=True)
class JournalHeader:
    """What a file holds.

    Attributes:
        key: hash of all that determines the matrix.
        grid: its tiles.
        dtype: of its entries.
        about: for people: the architecture and what else was told.
    """

    key: str
    grid: Grid
    dtype: str
    about: dict[str, Any]

    @property
    def nbytes(self) -> int:
        """Of the matrix."""
        return self.grid.n * self.grid.n2 * np.dtype(self.dtype).itemsize


class TileJournal:
    """An open ledger.

    Attributes:
        header: its first line.
    """

    def __init__(self, file: IO[bytes], header: JournalHeader, start: int) -> None:
        self.header = header
        self._file, self._start = file, start

    @classmethod
    def begin(cls, file: IO[bytes], header: JournalHeader) -> TileJournal:
        """Write a ledger without finished tiles over what the file held.

        Args:
            file: open for writing.
            header: what will be computed.

        Returns:
            the ledger.
        """
        content = json.dumps({"format": _FORMAT, **asdict(header)}).encode()
        line = content + b" " + _checksum(content) + b"\n"
        file.truncate(0)
        file.seek(0)
        file.write(line + _OPEN * len(header.grid))
        file.flush()
        os.fsync(file.fileno())
        return cls(file, header, len(line))

    @classmethod
    def read(cls, file: IO[bytes]) -> TileJournal | None:
        """Read a ledger.

        Args:
            file: open for reading.

        Returns:
            the ledger; None if the file holds none, or a damaged one.
        """
        file.seek(0)
        line = file.readline()
        content, _, checksum = line.rstrip(b"\n").rpartition(b" ")
        if checksum != _checksum(content):
            return None
        try:
            fields = json.loads(content)
            if fields.pop("format") != _FORMAT:
                return None
            header = JournalHeader(**fields | {"grid": Grid(**fields["grid"])})
            whole = os.fstat(file.fileno()).st_size == len(line) + len(_OPEN) * len(header.grid)
        except (ValueError, TypeError, AttributeError, KeyError, ZeroDivisionError):
            return None
        return cls(file, header, len(line)) if whole else None

    def mark(self, place: int, block: Float[np.ndarray, "rows columns"]) -> None:
        """A tile is on the disk.

        Args:
            place: of the tile in the grid.
            block: the tile.
        """
        self._file.seek(self._start + len(_OPEN) * place)
        self._file.write(_checksum(np.ascontiguousarray(block).data))
        self._file.flush()

    def missing(self) -> list[int]:
        """Indices of the tiles that are not finished."""
        return [place for place, mark in enumerate(self._marks()) if not _MARK.fullmatch(mark)]

    def unfinished(self, K: Float[np.ndarray, "n n2"]) -> list[int]:
        """Indices of the tiles that are missing from a matrix, or damaged.

        Args:
            K: content of the file.

        Returns:
            the tiles that are not finished, and those that differ from what was written, themselves or mirrored.
        """
        tiles = enumerate(zip(self.header.grid.tiles, self._marks(), strict=True))
        return [place for place, (tile, mark) in tiles if not self._is_intact(K, tile, mark)]

    def _is_intact(self, K: np.ndarray, tile: Tile, mark: bytes) -> bool:
        if not _MARK.fullmatch(mark):  # of a new file, all of which would be read
            return False
        block = np.asarray(K[tile.rows, tile.columns])
        if _checksum(np.ascontiguousarray(block).data) != mark:
            return False
        mirrored = self.header.grid.symmetric and not tile.on_diagonal
        return not mirrored or np.array_equal(block, K[tile.columns, tile.rows].T)

    def _marks(self) -> Iterator[bytes]:
        self._file.seek(self._start)
        marks = self._file.read()
        return (marks[i : i + len(_OPEN)] for i in range(0, len(marks), len(_OPEN)))


def _checksum(content: bytes | memoryview) -> bytes:
    return f"{zlib.crc32(content):08x}".encode()


def header_beside(path: Path) -> JournalHeader | None:
    """Read the header of the ledger beside a matrix.

    Args:
        path: of the matrix.

    Returns:
        None if there is no ledger, or a damaged one.
    """
    try:
        with journal_path(path).open("rb") as file:
            ledger = TileJournal.read(file)
    except OSError:
        return None
    return None if ledger is None else ledger.header


def journal_path(path: Path) -> Path:
    """Where the ledger of a matrix is."""
    return path.with_name(f"{path.name}.tiles")
