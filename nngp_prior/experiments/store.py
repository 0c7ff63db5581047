"""The folder of a study: rows that are appended as they finish, and trained networks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nngp_prior.errors import DataUnavailable, InvalidInput
from nngp_prior.kernels.locks import locked
from nngp_prior.numerics.whole_files import written_whole

Key = tuple[str, ...]


class Store:
    """Results by key. A row is on the disk before :meth:`add` returns; one that was cut off is computed again.

    Args:
        folder: folder of the study.

    Attributes:
        folder: as given.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows = dict(self._read())

    @property
    def networks(self) -> Path:
        """Folder of trained networks."""
        return self.folder / "networks"

    def __contains__(self, key: Key) -> bool:
        return key in self._rows

    def __getitem__(self, key: Key) -> dict[str, Any]:
        return self._rows[key]

    def get(self, key: Key) -> dict[str, Any] | None:
        """Return a row; None if there is none."""
        return self._rows.get(key)

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """Return all rows of a kind of task."""
        return [row for key, row in self._rows.items() if key[0] == kind]

    def add(self, key: Key, row: dict[str, Any]) -> None:
        """Append a row and wait until it is on the disk."""
        line = json.dumps({"key": key, **row}, allow_nan=True) + "\n"
        with self._path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        self._rows[key] = row

    def write(self, name: str, text: str) -> Path:
        """Write a file of the study atomically, and return its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as file:
            file.write(text.encode())
        return path

    @property
    def _path(self) -> Path:
        return self.folder / "rows.jsonl"

    def _read(self) -> Iterator[tuple[Key, dict[str, Any]]]:
        if not self._path.exists():
            return
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):  # the last append was cut off
            with self._path.open("r+b") as file:
                file.truncate(len(whole))
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                row = json.loads(line)
                yield tuple(row.pop("key")), row
            except (ValueError, KeyError, TypeError, AttributeError):
                raise DataUnavailable(
                    f"{self._path}, line {number}: is damaged. Delete that line; it is computed again."
                ) from None


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
        yield Store(folder)
