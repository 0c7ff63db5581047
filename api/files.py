"""Atomic file writes: a file is complete or absent."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from api.problems import StorageFull
from nngp_prior.errors import InvalidInput

_SUFFIX = ".tmp"
_ABANDONED = 3600.0  # seconds


def require_space(folder: Path, needed: int, min_free: int) -> None:
    """Check that the disk has enough free space.

    Args:
        folder: folder on the disk.
        needed: bytes to be written.
        min_free: bytes that must stay free.

    Raises:
        StorageFull: if there is too little space.
    """
    free = shutil.disk_usage(folder).free
    if free - needed < min_free:
        raise StorageFull(
            f"The disk has {free:,} bytes free, where {needed:,} are needed and {min_free:,} are left free "
            "(NNGP_MIN_FREE_DISK). Make room and try again."
        )


@contextlib.contextmanager
def draft(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Create a temporary file, removed at the end unless it was published.

    Args:
        folder: folder of the file.

    Yields:
        the open file, and its path.

    Raises:
        StorageFull: if the disk is full.
        OSError: if writing fails otherwise.
    """
    path = folder / f"{uuid.uuid4().hex}{_SUFFIX}"
    try:
        with open(path, "wb", buffering=0, opener=_private) as file:
            yield file, path
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFull("The disk is full. Make room and try again.") from None
    finally:
        path.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def private_folder(folder: Path) -> None:
    """Create a folder readable by its owner alone, or restrict an existing one to its owner.

    Args:
        folder: the folder.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):  # owned by another user, who granted access
        folder.chmod(0o700)


def publish(file: BinaryIO, path: Path, target: Path) -> None:
    """Move a temporary file to its final name, once its content is on the disk.

    Args:
        file: the open file.
        path: its temporary path.
        target: its final path.
    """
    os.fsync(file.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    with contextlib.suppress(OSError):  # folders cannot be opened on all platforms
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_whole(target: Path, content: bytes, min_free: int) -> None:
    """Write a file atomically.

    Args:
        target: path of the file, in an existing folder.
        content: content of the file.
        min_free: bytes of the disk to leave free.
    """
    require_space(target.parent, len(content), min_free)
    with draft(target.parent) as (file, path):
        view = memoryview(content)
        while view:
            view = view[file.write(view) :]
        publish(file, path, target)


def store_id(home: Path) -> str:
    """Return the id of a store, by which a process on another machine sees that it has the same folder.

    Args:
        home: folder of the store.

    Returns:
        random text, generated at the first call.
    """
    path = home / "store-id"
    if not path.exists():
        private_folder(home)
        with draft(home) as (file, temporary), contextlib.suppress(FileExistsError):
            file.write(uuid.uuid4().hex.encode())
            os.link(temporary, path)  # whole or not at all, and by one process
    return path.read_text(encoding="ascii")


def sweep(folder: Path, shared: bool = False) -> None:
    """Remove temporary files left behind by a killed process.

    Args:
        folder: folder to search.
        shared: True if other processes may be writing files there; these have changed within the last hour.
    """
    until = time.time() - (_ABANDONED if shared else 0.0)
    for path in folder.glob(f"*{_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):
            if not shared or path.stat().st_mtime < until:
                path.unlink()


class StoreLock:
    """Lock on a store, exclusive or shared by services of one database.

    The operating system releases it when the process ends, however it ends.

    Args:
        folder: folder of the store.
        shared: True to use the store beside other services that share it.

    Raises:
        InvalidInput: if another process excludes this one.
    """

    def __init__(self, folder: Path, shared: bool = False) -> None:
        private_folder(folder)
        self._path = folder / "service.lock"
        self._file = _open(self._path)
        self._leading = _open(folder / "leader.lock") if shared else None
        if not _locked(self._file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
            self.release()
            remedy = "End that one, or set NNGP_HOME to another folder."
            raise InvalidInput("NNGP_HOME", f"another service uses {folder}", remedy)

    def holds(self) -> bool:
        """True unless the lock file was removed or replaced, which lets another service in."""
        try:
            return os.path.samestat(os.fstat(self._file), self._path.stat())
        except OSError:
            return False

    def leads(self) -> bool:
        """True for one of the processes that share the store, until it ends: the one that cleans up."""
        return self._leading is None or _locked(self._leading, fcntl.LOCK_EX)

    def release(self) -> None:
        """Release the lock."""
        for file in (self._file, self._leading):
            if file is not None:
                os.close(file)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _locked(file: int, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
