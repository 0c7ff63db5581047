"""The folder of a study: rows that are appended as they finish, and trained networks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from nngp_prior.errors import DataUnavailable, InvalidInput
from nngp_prior.kernels.locks import lock, locked
from nngp_prior.numerics.whole_files import written_whole

Key = tuple[str, ...]
_ROWS = "rows.jsonl"


class Store:
    """Results by key. A row is on the disk when :meth:`add` returns; an incomplete last line is ignored.

    Several processes may add rows to one folder; each knows the rows that were there when it was opened, and its own.

    Args:
        folder: folder of the study.

    Attributes:
        folder: as given.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._path = folder, folder / _ROWS
        self._rows = dict(self._read())

    def __contains__(self, key: Key) -> bool:
        return key in self._rows

    def get(self, key: Key) -> dict[str, Any] | None:
        """Return a row; None if there is none."""
        return self._rows.get(key)

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """Return all rows of a kind of task."""
        return [row for key, row in self._rows.items() if key[0] == kind]

    def add(self, key: Key, row: dict[str, Any]) -> None:
        """Append a row and wait until it is on the disk."""
        line = json.dumps({"key": key, **row}, allow_nan=True) + "\n"
        with self._path.open("a+b") as file:
            lock(file, exclusive=True, wait=True)  # until the file is closed
            _drop_incomplete_line(file)
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        self._rows[key] = row

    def add_missing(self, rows: Iterable[tuple[Key, dict[str, Any]]]) -> None:
        """Append the rows that are not there: a task that was killed while they were stored is carried out again."""
        for key, row in rows:
            if key not in self:
                self.add(key, row)

    def write(self, name: str, text: str) -> None:
        """Write a file of the study atomically."""
        with written_whole(self.folder / name) as file:
            file.write(text.encode())

    def _read(self) -> Iterator[tuple[Key, dict[str, Any]]]:
        if not self._path.exists():
            return
        for number, line in enumerate(_complete_lines(self._path).splitlines(), start=1):
            try:
                row = json.loads(line)
                yield tuple(row.pop("key")), row
            except (ValueError, KeyError, TypeError, AttributeError):
                raise DataUnavailable(
                    f"{self._path}, line {number}: is damaged. Delete that line; it is computed again."
                ) from None


def _complete_lines(path: Path) -> bytes:
    """Return the content of a file without an incomplete last line."""
    content = path.read_bytes()
    return content[: content.rfind(b"\n") + 1]


def _drop_incomplete_line(file: IO[bytes]) -> None:
    """Remove what an interrupted append left at the end of a locked file."""
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return
    file.seek(end - 1)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


@contextmanager
def opened(folder: Path) -> Iterator[Store]:
    """Open the folder of a study for writing; one process at a time.

    Args:
        folder: folder, created if needed.

    Yields:
        its store.

    Raises:
        InvalidInput: if the folder cannot be written to, or another process writes to it.
    """
    try:
        (folder / "networks").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput("folder", f"{folder} cannot be created ({error})", "Name another one.") from None
    if not os.access(folder, os.W_OK):
        raise InvalidInput("folder", f"{folder} cannot be written to", "Name another one.")
    with locked(folder / "lock", wait=False) as file:
        if file is None:
            raise InvalidInput("folder", f"{folder} is in use by another run", "Wait for it, or name another folder.")
        for path in (*folder.glob("*.part"), *(folder / "networks").glob("*.part")):  # of a run that was killed
            path.unlink(missing_ok=True)
        yield Store(folder)
