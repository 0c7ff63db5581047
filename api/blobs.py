"""Uploaded arrays, found by the SHA-256 of their ``.npy`` file: ``{folder}/{sha[:2]}/{sha}.npy``.

What is stored was checked while it came in: its hash, and that it is an array of finite real numbers in this machine's
byte order. Nothing pickled is ever read, and no name that a client chose becomes a path.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from api.errors import Problem
from api.files import draft, publish, require_space, sweep
from api.settings import ServerSettings
from nngp_prior.data.npy import START, Header, header_end, read_header
from nngp_prior.errors import DataUnavailable, InvalidInput

_SHA256 = re.compile("[0-9a-f]{64}")
_HEADER_BYTES = 2**16
_AXES = 8
_ITEM_BYTES = 8  # of the largest numbers


class InvalidArray(Problem):
    """A body that is no array that can be used.

    Args:
        problem: what is wrong with it.
        remedy: what to do instead.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(422, "invalid-array", f"The body {problem}. {remedy}.")


class BlobStore:
    """A folder of arrays. One process writes to it, others may read.

    Args:
        settings: where it is, and what it may hold.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.folder = settings.home / "blobs"
        self._max_bytes, self._quota = settings.max_blob_bytes, settings.blob_quota_bytes
        self._min_free = settings.min_free_disk
        self._lock = threading.Lock()
        self._bytes = 0
        self._coming = 0  # bytes of uploads that have begun

    def start(self) -> None:
        """Before the first upload: make the folder, and remove what uploads that were cut off left there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        sweep(self.folder)
        self._bytes = sum(path.stat().st_size for path in self.folder.glob("??/*.npy"))

    @property
    def bytes(self) -> int:
        """Of all arrays."""
        return self._bytes

    def describe(self, sha256: str) -> dict[str, Any] | None:
        """What is there under a hash.

        Args:
            sha256: of a file.

        Returns:
            its size, type and shape, as JSON has them; None where there is no such file.
        """
        path = self._path(sha256)
        try:
            with path.open("rb") as file:
                header = _header_of(file)
                return _document(sha256, path.stat().st_size, header)
        except FileNotFoundError:
            return None

    def open(self, sha256: str) -> np.ndarray:
        """An array.

        Args:
            sha256: of its file.

        Returns:
            a read-only map of the file.

        Raises:
            InvalidInput: there is none.
        """
        try:
            with self._path(sha256).open("rb") as file:
                header = _header_of(file)
                order = "F" if header.fortran_order else "C"
                return np.memmap(file, header.dtype, "r", header.offset, header.shape, order)
        except FileNotFoundError:
            remedy = f"Upload it first: PUT /v1/blobs/{sha256}."
            raise InvalidInput("sha256", f"there is no array {sha256}", remedy) from None

    @contextmanager
    def upload(self, sha256: str, length: int) -> Iterator[Upload]:
        """Take in a file.

        Args:
            sha256: that it will have.
            length: that it will have.

        Yields:
            what its bytes are given to; what was not finished at the end is forgotten.

        Raises:
            Problem: it is too large.
        """
        if length > self._max_bytes:
            detail = f"The array has {length:,} bytes, and {self._max_bytes:,} are allowed (NNGP_MAX_BLOB_BYTES)."
            raise Problem(413, "body-too-large", f"{detail} Upload a part of it.")
        with self._lock:
            free = self._quota - self._bytes - self._coming
            if length > free:
                detail = f"The array has {length:,} bytes, and {max(free, 0):,} of the quota are free"
                raise Problem(413, "body-too-large", f"{detail} (NNGP_BLOB_QUOTA_BYTES). Raise it, or remove arrays.")
            require_space(self.folder, length + self._coming, self._min_free)
            self._coming += length
        try:
            with draft(self.folder) as (file, path):
                yield Upload(self, sha256, length, file, path)
        finally:
            with self._lock:
                self._coming -= length

    def take(self, upload: Upload) -> bool:
        """Keep a whole upload.

        Args:
            upload: whose bytes are all there, and right.

        Returns:
            False where the array was there already.
        """
        target = self._path(upload.sha256)
        with self._lock:
            if target.exists():
                return False
            publish(upload.file, upload.path, target)
            self._bytes += upload.length
            return True

    def _path(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise InvalidInput("sha256", f"got {sha256[:100]!r}", "Give the SHA-256 of a file, 64 hexadecimal digits.")
        return self.folder / sha256[:2] / f"{sha256}.npy"


class Upload:
    """A file that is coming in: checked as it comes, and never held in memory."""

    def __init__(self, store: BlobStore, sha256: str, length: int, file: BinaryIO, path: Path) -> None:
        self.sha256, self.length, self.file, self.path = sha256, length, file, path
        self._store = store
        self._hash = hashlib.sha256()
        self._written = 0
        self._start = bytearray()  # until the header is whole
        self._header: Header | None = None
        self._rest = b""  # of a number whose other bytes are still to come

    def write(self, chunk: bytes | bytearray) -> None:
        """Take the next bytes.

        Args:
            chunk: of the file.

        Raises:
            InvalidArray: the file is no array that can be used, or longer than was said.
        """
        self._written += len(chunk)
        if self._written > self.length:
            raise InvalidArray(
                f"is longer than its Content-Length, {self.length:,} bytes", "State the length of the file"
            )
        self._hash.update(chunk)
        if self._header is None:
            self._start += chunk
            self._header = self._read_header()
            if self._header is not None:
                self._check_numbers(self._header, self._start[self._header.offset :])
        else:
            self._check_numbers(self._header, chunk)
        view = memoryview(chunk)
        while view:
            view = view[self.file.write(view) :]

    def finish(self) -> tuple[dict[str, Any], bool]:
        """All bytes are there.

        Returns:
            size, type and shape; and whether the array is new.

        Raises:
            InvalidArray: they are too few.
            Problem: they are others than was said.
        """
        if self._header is None or self._written < self.length:
            raise InvalidArray(f"ends after {self._written:,} bytes of {self.length:,}", "Send all of the file")
        found = self._hash.hexdigest()
        if found != self.sha256:
            raise Problem(422, "wrong-hash", f"The body has the SHA-256 {found}. Send it to /v1/blobs/{found}.")
        os.fsync(self.file.fileno())  # here, and not while others wait for the store
        return _document(self.sha256, self.length, self._header), self._store.take(self)

    def _read_header(self) -> Header | None:
        """The header, once it is there; it is refused before more is read."""
        if len(self._start) < min(START, self.length):
            return None
        try:
            end = header_end("The body", self._start[:START])
            if end > _HEADER_BYTES:
                raise InvalidArray(f"has a header of {end:,} bytes", f"Send at most {_HEADER_BYTES:,}: numpy.save does")
            if len(self._start) < min(end, self.length):
                return None
            header = read_header("The body", self._start)
        except DataUnavailable as error:
            raise Problem(422, "invalid-array", str(error)) from None
        _require_numbers(header)
        if header.offset + header.nbytes != self.length:
            raise InvalidArray(
                f"has {self.length - header.offset:,} bytes of data where shape {header.shape} and type {header.dtype} "
                f"make {header.nbytes:,}",
                "Save it again with numpy.save",
            )
        return header

    def _check_numbers(self, header: Header, data: bytes | bytearray) -> None:
        if header.dtype.kind not in "bf":
            return
        data = self._rest + data
        whole = len(data) - len(data) % header.dtype.itemsize
        self._rest = bytes(data[whole:])
        if header.dtype.kind == "f" and not np.isfinite(np.frombuffer(data[:whole], header.dtype)).all():
            raise InvalidArray("has values that are not finite", "Remove or mend them")
        if header.dtype.kind == "b" and np.frombuffer(data, np.uint8).max(initial=0) > 1:
            raise InvalidArray("has truth values other than 0 and 1", "Save it again with numpy.save")


def _require_numbers(header: Header) -> None:
    dtype, shape = header.dtype, header.shape
    if dtype.kind not in "biuf" or dtype.itemsize > _ITEM_BYTES:
        raise InvalidArray(f"is an array of {dtype}", "Save real numbers of at most 64 bits")
    if not dtype.isnative:
        raise InvalidArray(f"has the byte order of other machines ({dtype.str})", "Save it with array.astype('<f8')")
    if not 1 <= len(shape) <= _AXES or 0 in shape:
        raise InvalidArray(f"has the shape {shape}", f"Save 1 to {_AXES} axes, none of them empty")


def _header_of(file: BinaryIO) -> Header:
    """Of a file that was checked when it came in."""
    return read_header("blob", file.read(_HEADER_BYTES))


def _document(sha256: str, length: int, header: Header) -> dict[str, Any]:
    return {"sha256": sha256, "bytes": length, "dtype": header.dtype.name, "shape": list(header.shape)}
