"""A folder of JSON documents by their id, each with the specification that it is of; damaged ones are not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import structlog

from api.files import sweep, write_whole
from api.seals import DAMAGED, sealed, unsealed

_log = structlog.get_logger(__name__)


class DocumentStore:
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
            False if it was there already and intact; it stays as it is.
        """
        if self.get(key) is not None:
            return False
        if specification is not None:
            self._write(self._specification(key), specification)
        self._write(self._path(key), document)  # last: now it is there
        return True

    def get(self, key: str) -> dict[str, Any] | None:
        """Get a document.

        Args:
            key: of it.

        Returns:
            the document, with its ``specification`` if it has one; None if there is none, or a damaged one.
        """
        document = self._read(self._path(key))
        path = self._specification(key)
        if document is None or not path.exists():
            return document
        specification = self._read(path)
        return None if specification is None else {**document, "specification": specification}

    def list(self) -> list[dict[str, Any]]:
        """All intact documents, the newest first, without their specifications."""
        paths = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        return [document for path in paths if (document := self._read(path)) is not None]

    def remove(self, key: str) -> None:
        """Delete a document.

        Args:
            key: of it.
        """
        self._path(key).unlink(missing_ok=True)
        self._specification(key).unlink(missing_ok=True)

    def with_part(self, text: str) -> str | None:
        """Find a document by a part of its specification.

        Args:
            text: as JSON has it.

        Returns:
            the key of one that has it; None if there is none.
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
