"""Atomic file writes, checks of paths, and size limits of folders."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from nngp_prior.errors import InvalidInput


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that gets its name when it is complete and on the disk; if writing fails, nothing is left.

    Args:
        path: path of the file; its folder must exist.

    Yields:
        the file, open for writing.
    """
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", suffix=".part", delete=False) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def writable(name: str, path: str | os.PathLike[str] | None) -> Path | None:
    """Convert a user's path of a file to be written.

    Args:
        name: name of the argument, for messages.
        path: path of the file; None for no file.

    Returns:
        the path.

    Raises:
        InvalidInput: if its folder does not exist, or cannot be written to.
    """
    if path is None:
        return None
    path = Path(path)
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        raise InvalidInput(name, f"{path} cannot be written", "Name a file in a folder that exists.")
    return path


def trim(folder: Path, limit: int, keep: Path | None = None) -> None:
    """Remove the least recently used files of a folder until the others fit.

    Args:
        folder: folder of files that can be recreated.
        limit: maximum total size in bytes.
        keep: a file to keep in any case.
    """
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # removed by another process
            status = path.stat()
            found.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= limit:
            return
        if path != keep:
            path.unlink(missing_ok=True)
            total -= size
