"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from api.problems import StorageFull
from nngp_prior.errors import InvalidInput

_SUFFIX = ".tmp"


def require_space(folder: Path, needed: int, min_free: int) -> None:
    """Check that the disk has room.

    Args:
        folder: on it.
        needed: bytes that will be written.
        min_free: bytes that must be free afterwards.

    Raises:
        StorageFull: it has not.
    """
    free = shutil.disk_usage(folder).free
    if free - needed < min_free:
        raise StorageFull(
            f"The disk has {free:,} bytes free, where {needed:,} are needed and {min_free:,} are left free "
            "(NNGP_MIN_FREE_DISK). Make room and try again."
        )


@contextlib.contextmanager
def draft(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A temporary file, removed at the end unless it was published.

    Args:
        folder: where it is.

    Yields:
        the open file, and its path.

    Raises:
        StorageFull: the disk is full.
        OSError: it fails in another way.
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
    """Make a folder that is readable by its owner alone, or restrict an existing one to its owner.

    Args:
        folder: to be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):  # another user's, who has let us in
        folder.chmod(0o700)


def publish(file: BinaryIO, path: Path, target: Path) -> None:
    """Give a temporary file its name, once its content is on the disk.

    Args:
        file: open.
        path: of it.
        target: its name.
    """
    os.fsync(file.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    with contextlib.suppress(OSError):  # folders cannot be opened everywhere
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_whole(target: Path, content: bytes, min_free: int) -> None:
    """Write a file.

    Args:
        target: its path; its folder is there.
        content: of it.
        min_free: bytes of the disk that are left free.
    """
    require_space(target.parent, len(content), min_free)
    with draft(target.parent) as (file, path):
        view = memoryview(content)
        while view:
            view = view[file.write(view) :]
        publish(file, path, target)


def sweep(folder: Path) -> None:
    """Remove temporary files that a process which was killed left behind.

    Args:
        folder: where they are.
    """
    for path in folder.glob(f"*{_SUFFIX}"):
        path.unlink(missing_ok=True)


class StoreLock:
    """Keeps a store to one service: uploads are counted, and their remains swept, by the process that has it.

    The system lets go of it when the process ends, however it does.

    Args:
        folder: of the store.

    Raises:
        InvalidInput: another process has it.
    """

    def __init__(self, folder: Path) -> None:
        private_folder(folder)
        self._path = folder / "service.lock"
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            remedy = "End that one, or set NNGP_HOME to another folder."
            raise InvalidInput("NNGP_HOME", f"another service uses {folder}", remedy) from None

    def holds(self) -> bool:
        """True unless the lock file was removed or replaced, which lets another service in."""
        try:
            return os.path.samestat(os.fstat(self._file), self._path.stat())
        except OSError:
            return False

    def release(self) -> None:
        """Let others have it."""
        os.close(self._file)
