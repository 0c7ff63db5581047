"""A folder of JSON documents by their id, each with the specification that it is of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from api.files import sweep, write_whole


class Register:
    """What was named once and is asked for again.

    The specification has a file of its own, since it may be long: a list does not read it.

    Args:
        folder: made when it is not there.
        min_free: bytes of the disk that are left free.
    """

    def __init__(self, folder: Path, min_free: int) -> None:
        self._folder, self._min_free = folder, min_free
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)

    def put(self, key: str, document: dict[str, Any], specification: dict[str, Any] | None = None) -> bool:
        """Keep a document.

        Args:
            key: hexadecimal digits, by which it is found again.
            document: what JSON can hold.
            specification: that it is of.

        Returns:
            False where it was there already; it stays as it is.
        """
        if self._path(key).exists():
            return False
        if specification is not None:
            self._write(self._specification(key), specification)
        self._write(self._path(key), document)  # last: now it is there
        return True

    def get(self, key: str) -> dict[str, Any] | None:
        """A document.

        Args:
            key: of it.

        Returns:
            the document, with its ``specification`` if it has one; None where there is none.
        """
        try:
            document = json.loads(self._path(key).read_bytes())
        except FileNotFoundError:
            return None
        path = self._specification(key)
        return {**document, "specification": json.loads(path.read_bytes())} if path.exists() else document

    def list(self) -> list[dict[str, Any]]:
        """All documents, the newest first, without their specifications."""
        paths = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        return [json.loads(path.read_bytes()) for path in paths]

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        write_whole(path, json.dumps(content).encode(), self._min_free)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    def _specification(self, key: str) -> Path:
        return self._folder / f"{key}.specification"
