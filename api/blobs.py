"""Uploaded arrays by the SHA-256 of their ``.npy`` file: ``{folder}/{sha[:2]}/{sha}.npy``.

Uploads are validated on arrival: the hash, and an array of finite real numbers in this machine's byte order. Each
process hashes a file again before its first use, so that a file damaged on disk is refused instead of giving wrong
numbers. Pickles are never read, and no name chosen by a client becomes a path.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from api.files import draft, private_folder, publish, require_space, sweep
from api.problems import Problem
from api.settings import ServerSettings
from nngp_prior.data.npy import START, NpyHeader, header_end, read_header
from nngp_prior.errors import DataUnavailable, InvalidInput

_SHA256 = re.compile("[0-9a-f]{64}")
_HEADER_BYTES = 2**16
_AXES = 8
_ITEM_BYTES = 8  # of the largest dtype
_RECOUNT = 10.0  # seconds between two counts of the arrays of several processes


class InvalidArray(Problem):
    """Raised if a body is not a usable array.

    Args:
        problem: description of the fault.
        remedy: what to do instead.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(422, "invalid-array", f"The body {problem}. {remedy}.")


class Blobs:
    """Read access to a folder of arrays.

    Args:
        folder: folder of the arrays.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._intact: dict[str, tuple[int, ...]] = {}  # status of the files already hashed

    def describe(self, sha256: str) -> dict[str, Any] | None:
        """Return size, dtype and shape of an array.

        Args:
            sha256: hash of its file.

        Returns:
            a JSON object; None if the file is missing or damaged.
        """
        try:
            with self.path(sha256).open("rb") as file:
                if not self._is_intact(sha256, file):
                    return None
                return _document(sha256, os.fstat(file.fileno()).st_size, _header_of(file))
        except FileNotFoundError:
            return None

    def open(self, sha256: str) -> np.ndarray:
        """Open an array.

        Args:
            sha256: hash of its file.

        Returns:
            a read-only memory map of the file.

        Raises:
            InvalidInput: if there is no such array.
            DataUnavailable: if its file is damaged.
        """
        upload = f"PUT /v1/blobs/{sha256}"
        try:
            with self.path(sha256).open("rb") as file:
                if not self._is_intact(sha256, file):
                    raise DataUnavailable(
                        f"sha256: the uploaded array {sha256} is damaged: its file has another hash. Upload it again: "
                        f"{upload}."
                    )
                header = _header_of(file)
                order = "F" if header.fortran_order else "C"
                return np.memmap(file, header.dtype, "r", header.offset, header.shape, order)
        except FileNotFoundError:
            problem = f"there is no uploaded array {sha256}"
            raise InvalidInput("sha256", problem, f"Upload it first: {upload}.") from None

    def path(self, sha256: str) -> Path:
        """Return the path of an array.

        Args:
            sha256: hash of its file.

        Returns:
            the path; the file may not exist.

        Raises:
            InvalidInput: if ``sha256`` is not a SHA-256 hash.
        """
        if not _SHA256.fullmatch(sha256):
            raise InvalidInput("sha256", f"got {sha256[:100]!r}", "Give the SHA-256 of a file, 64 hexadecimal digits.")
        return self.folder / sha256[:2] / f"{sha256}.npy"

    def _is_intact(self, sha256: str, file: BufferedReader) -> bool:
        """True if the content of an open file matches its hash; checked once per process, again if the file changed."""
        now = _status(file)
        if self._intact.get(sha256) != now:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                return False
            self._intact[sha256] = now
            file.seek(0)
        return True


class BlobStore(Blobs):
    """Folder of arrays with any number of readers. With several writing processes the quota is approximate.

    Args:
        settings: settings with the location and the limits.
        shared: True if other processes write too.
    """

    def __init__(self, settings: ServerSettings, shared: bool = False) -> None:
        super().__init__(settings.home / "blobs")
        self._shared = shared
        self._max_bytes, self._quota = settings.max_blob_bytes, settings.blob_quota_bytes
        self._min_free = settings.min_free_disk
        self._lock = threading.Lock()
        self._bytes = 0
        self._coming = 0  # bytes received of unfinished uploads

    def start(self) -> None:
        """Create the folder and remove the files of interrupted uploads; call it before the first upload."""
        private_folder(self.folder)
        sweep(self.folder, self._shared)
        self._count()

    @property
    def bytes(self) -> int:
        """Total size of the arrays."""
        self._recount()
        return self._bytes

    def _count(self) -> None:
        self._counted = time.monotonic()
        total = 0
        for path in self.folder.glob("??/*.npy"):
            with suppress(FileNotFoundError):  # removed by another process
                total += path.stat().st_size
        self._bytes = total

    def _recount(self) -> None:
        """Count the arrays again if other processes may have changed them."""
        if self._shared and time.monotonic() - self._counted > _RECOUNT:
            with self._lock:
                self._count()

    @contextmanager
    def upload(self, sha256: str, length: int) -> Iterator[Upload]:
        """Receive a file.

        Args:
            sha256: announced hash.
            length: announced length in bytes.

        Yields:
            an object to write the bytes to; an unfinished upload is discarded at the end.

        Raises:
            Problem: if it is too large.
        """
        if length > self._max_bytes:
            detail = f"The array has {length:,} bytes, and {self._max_bytes:,} are allowed (NNGP_MAX_BLOB_BYTES)."
            raise Problem(413, "body-too-large", f"{detail} Upload a part of it.")
        self._recount()
        self._require_room(length)
        with draft(self.folder) as (file, path):
            upload = Upload(self, sha256, length, file, path)
            try:
                yield upload
            finally:
                with self._lock:
                    self._coming -= upload.reserved

    def reserve(self, upload: Upload, size: int) -> None:
        """Count arriving bytes of an upload. Bytes still to come reserve nothing: they may never be sent.

        Args:
            upload: the upload.
            size: number of bytes.

        Raises:
            Problem: if the quota is exhausted.
            StorageFull: if the disk is full.
        """
        with self._lock:
            self._require_room(size)
            self._coming += size
        upload.reserved += size

    def _require_room(self, size: int) -> None:
        free = self._quota - self._bytes - self._coming
        if size > free:
            detail = f"The array needs {size:,} bytes more, and {max(free, 0):,} of the quota are free"
            raise Problem(413, "body-too-large", f"{detail} (NNGP_BLOB_QUOTA_BYTES). Raise it, or remove arrays.")
        require_space(self.folder, size, self._min_free)

    def take(self, upload: Upload) -> bool:
        """Store a complete upload.

        Args:
            upload: complete, validated upload.

        Returns:
            False if the array was already stored; a damaged one is replaced.
        """
        target = self.path(upload.sha256)
        with self._lock:
            if self.describe(upload.sha256) is not None:
                return False
            damaged = target.stat().st_size if target.exists() else 0
            publish(upload.file, upload.path, target)
            self._intact[upload.sha256] = _status(upload.file)
            self._bytes += upload.length - damaged
            return True

    def remove(self, sha256: str) -> bool:
        """Delete an array. Processes that have it open can still read it.

        Args:
            sha256: hash of its file.

        Returns:
            False if there is no such array.
        """
        path = self.path(sha256)
        with self._lock:
            try:
                size = path.stat().st_size
                path.unlink()
            except FileNotFoundError:
                return False
            self._bytes -= size
        return True


class Upload:
    """Incoming file, validated while it arrives and never held in memory."""

    def __init__(self, store: BlobStore, sha256: str, length: int, file: BinaryIO, path: Path) -> None:
        self.sha256, self.length, self.file, self.path = sha256, length, file, path
        self.reserved = 0  # bytes counted by the store
        self._store = store
        self._hash = hashlib.sha256()
        self._written = 0
        self._start = bytearray()  # bytes of an incomplete header
        self._header: NpyHeader | None = None
        self._rest = b""  # bytes of an incomplete number

    def write(self, chunk: bytes | bytearray) -> None:
        """Process the next bytes.

        Args:
            chunk: bytes of the file.

        Raises:
            InvalidArray: if the file is not a usable array, or longer than announced.
        """
        self._written += len(chunk)
        if self._written > self.length:
            raise InvalidArray(
                f"is longer than its Content-Length, {self.length:,} bytes", "State the length of the file"
            )
        self._store.reserve(self, len(chunk))
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
        """Complete the upload after its last byte.

        Returns:
            size, dtype and shape; and True if the array is new.

        Raises:
            InvalidArray: if bytes are missing.
            Problem: if the hash differs from the announced one.
        """
        if self._header is None or self._written < self.length:
            raise InvalidArray(f"ends after {self._written:,} bytes of {self.length:,}", "Send all of the file")
        found = self._hash.hexdigest()
        if found != self.sha256:
            raise Problem(422, "wrong-hash", f"The body has the SHA-256 {found}. Send it to /v1/blobs/{found}.")
        os.fsync(self.file.fileno())  # here, before the store's lock is taken
        return _document(self.sha256, self.length, self._header), self._store.take(self)

    def _read_header(self) -> NpyHeader | None:
        """Return the header once it is complete; an invalid one is refused before more is read."""
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

    def _check_numbers(self, header: NpyHeader, data: bytes | bytearray) -> None:
        if header.dtype.kind not in "bf":
            return
        data = self._rest + data
        whole = len(data) - len(data) % header.dtype.itemsize
        self._rest = bytes(data[whole:])
        if header.dtype.kind == "f" and not np.isfinite(np.frombuffer(data[:whole], header.dtype)).all():
            raise InvalidArray("has values that are not finite", "Remove or correct them")
        if header.dtype.kind == "b" and np.frombuffer(data, np.uint8).max(initial=0) > 1:
            raise InvalidArray("has truth values other than 0 and 1", "Save it again with numpy.save")


def _require_numbers(header: NpyHeader) -> None:
    dtype, shape = header.dtype, header.shape
    if dtype.kind not in "biuf" or dtype.itemsize > _ITEM_BYTES:
        raise InvalidArray(f"is an array of {dtype}", "Save real numbers of at most 64 bits")
    if not dtype.isnative:
        raise InvalidArray(f"has the byte order of other machines ({dtype.str})", "Save it with array.astype('<f8')")
    if not 1 <= len(shape) <= _AXES or 0 in shape:
        raise InvalidArray(f"has the shape {shape}", f"Save 1 to {_AXES} axes, none of them empty")


def _status(file: BinaryIO) -> tuple[int, ...]:
    found = os.fstat(file.fileno())
    return found.st_ino, found.st_size, found.st_mtime_ns


def _header_of(file: BinaryIO) -> NpyHeader:
    """Read the header of a stored file."""
    return read_header("blob", file.read(_HEADER_BYTES))


def _document(sha256: str, length: int, header: NpyHeader) -> dict[str, Any]:
    return {"sha256": sha256, "bytes": length, "dtype": header.dtype.name, "shape": list(header.shape)}
