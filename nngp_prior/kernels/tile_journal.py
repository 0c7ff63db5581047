"""Journal of the finished tiles of a file, stored beside it together with the file's description.

``K.npy.tiles`` has a line of JSON and its CRC-32, then eight characters per tile: the CRC-32 of a finished one in
hexadecimal, or dashes. A tile is marked, by one write of eight bytes, after its data are on the disk. A journal with a
damaged line is discarded, and a tile with a damaged mark is recomputed.
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
    """Description of the file's content.

    Attributes:
        key: hash of everything that determines the matrix.
        grid: tiles of the matrix.
        dtype: dtype of its entries.
        about: readable description: the architecture and additional information.
    """

    key: str
    grid: Grid
    dtype: str
    about: dict[str, Any]

    @property
    def nbytes(self) -> int:
        """Size of the matrix in bytes."""
        return self.grid.n * self.grid.n2 * np.dtype(self.dtype).itemsize


class TileJournal:
    """An open journal.

    Attributes:
        header: content of its first line.
    """

    def __init__(self, file: IO[bytes], header: JournalHeader, start: int) -> None:
        self.header = header
        self._file, self._start = file, start

    @classmethod
    def begin(cls, file: IO[bytes], header: JournalHeader) -> TileJournal:
        """Overwrite the file with a journal without finished tiles.

        Args:
            file: open for writing.
            header: description of the matrix.

        Returns:
            the journal.
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
        """Read a journal.

        Args:
            file: open for reading.

        Returns:
            the journal; None if the file holds none, or a damaged one.
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
        """Mark a tile as finished, once it is on the disk.

        Args:
            place: index of the tile in the grid.
            block: entries of the tile.
        """
        self._file.seek(self._start + len(_OPEN) * place)
        self._file.write(_checksum(np.ascontiguousarray(block).data))
        self._file.flush()

    def missing(self) -> list[int]:
        """Return the indices of the tiles that are not finished."""
        return [place for place, mark in enumerate(self._marks()) if not _MARK.fullmatch(mark)]

    def unfinished(self, K: Float[np.ndarray, "n n2"]) -> list[int]:
        """Return the indices of the tiles that are missing from a matrix, or damaged.

        Args:
            K: content of the file.

        Returns:
            indices of unfinished tiles, and of tiles whose content, or mirror image, differs from what was written.
        """
        tiles = enumerate(zip(self.header.grid.tiles, self._marks(), strict=True))
        return [place for place, (tile, mark) in tiles if not self._is_intact(K, tile, mark)]

    def _is_intact(self, K: np.ndarray, tile: Tile, mark: bytes) -> bool:
        if not _MARK.fullmatch(mark):  # avoids reading all of a new file
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
    """Read the header of the journal beside a matrix.

    Args:
        path: path of the matrix.

    Returns:
        the header; None if there is no journal, or a damaged one.
    """
    try:
        with journal_path(path).open("rb") as file:
            ledger = TileJournal.read(file)
    except OSError:
        return None
    return None if ledger is None else ledger.header


def journal_path(path: Path) -> Path:
    """Return the path of the journal of a matrix."""
    return path.with_name(f"{path.name}.tiles")
