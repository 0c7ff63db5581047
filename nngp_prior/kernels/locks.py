"""File locks between processes and between threads; no-ops on systems without ``fcntl``.

A lock belongs to an open file and its maps, and is released with the last of them, however a process ends.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def lock(file: IO[bytes], exclusive: bool, wait: bool) -> bool:
    """Lock an open file.

    Args:
        file: any open file.
        exclusive: True for an exclusive lock, False for a shared one.
        wait: True to wait until the lock is available.

    Returns:
        True if it is locked now.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def locked(path: Path, wait: bool) -> Iterator[IO[bytes] | None]:
    """Open a file with an exclusive lock, creating it if needed; if left empty it is removed.

    Args:
        path: path of the file.
        wait: True to wait until the lock is available.

    Yields:
        the file, open for reading and writing; None if it is locked elsewhere.
    """
    while True:
        with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
            if not lock(file, exclusive=True, wait=wait):
                yield None
                return
            if not _is_at(file, path):  # it was removed during the wait
                continue
            try:
                yield file
            finally:
                if os.fstat(file.fileno()).st_size == 0:
                    path.unlink()
            return


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
