"""Folder of JSON documents by id, each with its specification; damaged documents count as missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import structlog

from api.files import sweep, write_whole
from api.seals import DAMAGED, sealed, unsealed

_log = structlog.get_logger(__name__)


class DocumentStore:
    """Store of named data sets, labellings and similar documents.

    Specifications are separate files, since they may be long: a list does not read them.

    Args:
        folder: folder; created if missing.
        min_free: bytes of the disk to leave free.
        shared: True if other processes write too.
    """

    def __init__(self, folder: Path, min_free: int, shared: bool = False) -> None:
        self._folder, self._min_free = folder, min_free
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder, shared)

    def put(self, key: str, document: dict[str, Any], specification: dict[str, Any] | None = None) -> bool:
        """Store a document.

        Args:
            key: id, hexadecimal digits.
            document: JSON object.
            specification: specification that the document describes.

        Returns:
            False if it was already stored intact; it is not changed.
        """
        if self.get(key) is not None:
            return False
        if specification is not None:
            self._write(self._specification(key), specification)
        self._write(self._path(key), document)  # last: marks the document as complete
        return True

    def get(self, key: str) -> dict[str, Any] | None:
        """Get a document.

        Args:
            key: its id.

        Returns:
            the document, with its ``specification`` if there is one; None if it is missing or damaged.
        """
        document = self._read(self._path(key))
        path = self._specification(key)
        if document is None or not path.exists():
            return document
        specification = self._read(path)
        return None if specification is None else {**document, "specification": specification}

    def list(self) -> list[dict[str, Any]]:
        """Return all intact documents, newest first, without their specifications."""
        paths = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        return [document for path in paths if (document := self._read(path)) is not None]

    def remove(self, key: str) -> None:
        """Delete a document.

        Args:
            key: its id.
        """
        self._path(key).unlink(missing_ok=True)
        self._specification(key).unlink(missing_ok=True)

    def with_part(self, text: str) -> str | None:
        """Find a document whose specification contains a text.

        Args:
            text: part of the JSON text.

        Returns:
            the key of one such document; None if there is none.
        """
        paths = self._folder.glob("*.specification")
        return next((path.stem for path in paths if text.encode() in path.read_bytes()), None)

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            content = unsealed(path.read_text(encoding="utf-8", errors="surrogateescape"))
        except FileNotFoundError:
            return None
        if content is DAMAGED:
            _log.warning("a document of the catalogue is damaged", path=str(path))
            return None
        return content

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        write_whole(path, sealed(content).encode(), self._min_free)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    def _specification(self, key: str) -> Path:
        return self._folder / f"{key}.specification"
