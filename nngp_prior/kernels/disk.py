"""Resumable computation of a kernel matrix, written tile by tile to a ``.npy`` file.

During the computation the matrix is ``K.npy.partial``; it is renamed when complete. The journal ``K.npy.tiles`` records
the finished tiles. If a process is killed, or a machine loses power, only the tiles being computed are lost.
"""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import threading
from concurrent.futures import Executor
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Float

from nngp_prior.errors import InvalidInput, ResourceLimit
from nngp_prior.kernels.cost import cost_of, require_disk, require_memory
from nngp_prior.kernels.job import KernelJob
from nngp_prior.kernels.locks import lock, locked
from nngp_prior.kernels.tile_journal import JournalHeader, TileJournal, journal_path
from nngp_prior.kernels.tiles import Grid, compute, function_of
from nngp_prior.numerics.whole_files import writable, written_whole
from nngp_prior.progress import Progress, ProgressCallback


def on_disk(
    job: KernelJob,
    path: Path,
    progress: ProgressCallback,
    *,
    about: dict[str, Any] | None = None,
    cached: bool = False,
    executor: Executor | None = None,
) -> Float[np.ndarray, "n n2"]:
    """Compute the tiles of a kernel that are missing in its file.

    Args:
        job: the kernel job.
        path: path of the finished matrix.
        progress: progress callback, called per tile.
        about: description in the journal in addition to that of the job.
        cached: True if the file belongs to a cache: wait for other processes that compute it, and replace what is
            damaged. Otherwise both are refused.
        executor: executor of the tiles, which this process writes; None for this process alone.

    Returns:
        the matrix, mapped from the file, read-only.

    Raises:
        InvalidInput: if the file is another matrix, or damaged, or cannot be created, or another process is computing
            it; or inputs are too large.
        ResourceLimit: if memory or disk are too small.
        OSError: if the disk fails in another way.
    """
    require_place(path)
    partial = partial_path(path)
    with locked(journal_path(path), wait=cached) as file:
        if file is None:
            raise InvalidInput("path", f"{path} is being computed by another process", "Wait, or name another file.")
        ledger = TileJournal.read(file)
        if ledger is not None and ledger.header.key == job.key and not ledger.missing():
            if partial.exists() and not path.exists():  # interrupted before it was renamed
                with contextlib.suppress(FileNotFoundError):  # NFS still shows names before another machine's renaming
                    _finish(partial, path)
            K = opened(path, job.dtype, job.shape)
            if K is not None and not ledger.unfinished(K):
                return K
        if cached:
            path.unlink(missing_ok=True)
        else:
            _refuse_others(path, partial, ledger, job.key)
        function = function_of(job)
        require_memory(job, function, in_memory=False)
        if ledger is None or ledger.header.key != job.key or not _has_room(partial, ledger.header):
            require_disk(job, path.parent)
            partial.unlink(missing_ok=True)
            grid = Grid(*job.shape, function.tile, job.symmetric)
            header = JournalHeader(job.key, grid, job.dtype, {**job.description, **(about or {})})
            _make(partial, header)
            ledger = TileJournal.begin(file, header)
        try:
            _fill(job, function, partial, ledger, progress, executor)
        except InvalidInput:  # inputs that overflow: nothing to resume
            partial.unlink()
            file.truncate(0)
            raise
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise ResourceLimit(
                f"path: the disk of {path} is full. Make room and call again: finished tiles are kept in {partial}."
            ) from None
        _finish(partial, path)
        K = opened(path, job.dtype, job.shape)
    if K is None:
        raise InvalidInput("path", f"{path} was taken away while it was computed", "Call again.")
    return K


def partial_path(path: Path) -> Path:
    """Return the path of a matrix while it is computed."""
    return path.with_name(f"{path.name}.partial")


def opened(path: Path, dtype: str, shape: tuple[int, ...]) -> Float[np.ndarray, "n n2"] | None:
    """Map a matrix, with a lock on its file for as long as the map lives.

    Args:
        path: path of a ``.npy`` file that :func:`on_disk` wrote.
        dtype: dtype of the matrix.
        shape: shape of the matrix.

    Returns:
        the matrix, read-only; None if there is no such file, or its header or size differs.
    """
    try:
        with path.open("rb") as file:
            lock(file, exclusive=False, wait=True)
            return _mapped(file, dtype, shape)
    except FileNotFoundError:
        return None


def verified(path: Path) -> Float[np.ndarray, "n n2"] | None:
    """Map a finished matrix after verifying all of it against the checksums in its journal.

    Args:
        path: path of the matrix.

    Returns:
        the matrix, read-only; None if it does not exist or is damaged.
    """
    try:
        with journal_path(path).open("rb") as file:
            ledger = TileJournal.read(file)
            if ledger is None:
                return None
            grid = ledger.header.grid
            K = opened(path, ledger.header.dtype, (grid.n, grid.n2))
            return None if K is None or ledger.unfinished(K) else K
    except FileNotFoundError:
        return None


def write_verifiable(path: Path, K: Float[np.ndarray, "n n2"], key: str) -> None:
    """Write a matrix and its checksum, atomically, for :func:`verified`.

    Args:
        path: path of the ``.npy`` file, in an existing folder.
        K: the matrix.
        key: hash of everything that determines it.
    """
    with written_whole(path) as file:
        np.save(file, K)
    grid = Grid(*K.shape, tile=max(K.shape), symmetric=False)
    with written_whole(journal_path(path)) as file:
        TileJournal.begin(file, JournalHeader(key, grid, K.dtype.name, {})).mark(0, K)


def _mapped(file: IO[bytes], dtype: str, shape: tuple[int, ...]) -> Float[np.ndarray, "n n2"] | None:
    header = _array_header(dtype, shape)
    whole = len(header) + math.prod(shape) * np.dtype(dtype).itemsize
    # Compared byte for byte: one changed bit in NumPy's header turns float64 into the byte order of other machines.
    if os.fstat(file.fileno()).st_size != whole or file.read(len(header)) != header:
        return None
    return np.memmap(file, dtype, "r", len(header), shape)


def _fill(
    job: KernelJob,
    function: Any,
    partial: Path,
    ledger: TileJournal,
    progress: ProgressCallback,
    executor: Executor | None,
) -> None:
    grid = ledger.header.grid
    offset = len(_array_header(job.dtype, job.shape))
    with partial.open("rb") as file:
        K = _mapped(file, job.dtype, job.shape)
        assert K is not None
        missing = ledger.unfinished(K)
        del K
    marking = threading.Lock()

    def write(place: int, block: np.ndarray) -> None:
        tile = grid.tiles[place]
        # Not through a map: its pages would count as this process's memory, and a full disk would kill the process.
        with partial.open("r+b") as file:
            _put(file, offset, grid.n2, tile.rows, tile.columns, block)
            if grid.symmetric and not tile.on_diagonal:
                _put(file, offset, grid.n2, tile.columns, tile.rows, np.ascontiguousarray(block.T))
            file.flush()
            os.fsync(file.fileno())
        with marking:
            ledger.mark(place, block)

    finished = len(grid) - len(missing)
    threads = None if executor is None else 1
    cost = cost_of(job, function, grid, len(missing), in_memory=False, threads=threads)
    progress(Progress("kernel tiles", finished, len(grid), cost))
    for done, _ in enumerate(compute(job, function, grid, missing, write, executor), start=finished + 1):
        progress(Progress("kernel tiles", done, len(grid)))


def _put(file: IO[bytes], offset: int, n2: int, rows: slice, columns: slice, block: np.ndarray) -> None:
    for row, values in zip(range(rows.start, rows.stop), block, strict=True):
        file.seek(offset + (row * n2 + columns.start) * block.itemsize)
        file.write(np.ascontiguousarray(values).data)


def _make(partial: Path, header: JournalHeader) -> None:
    """Create a sparse file of the final size."""
    with partial.open("wb") as file:
        file.write(_array_header(header.dtype, (header.grid.n, header.grid.n2)))
        file.truncate(file.tell() + header.nbytes)
        file.flush()
        os.fsync(file.fileno())


def _has_room(partial: Path, header: JournalHeader) -> bool:
    try:
        with partial.open("rb") as file:
            return _mapped(file, header.dtype, (header.grid.n, header.grid.n2)) is not None
    except FileNotFoundError:
        return False


def _array_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    description = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, description)
    return file.getvalue()


def _finish(partial: Path, path: Path) -> None:
    partial.replace(path)
    with contextlib.suppress(OSError):  # not all systems can open folders
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def require_place(path: Path) -> None:
    """Refuse an invalid name for a matrix's file.

    Args:
        path: name of the file.

    Raises:
        InvalidInput: if it does not end in .npy, or its folder does not exist or is not writable.
    """
    if path.suffix != ".npy":
        raise InvalidInput("path", f"got {str(path)!r}", "Name a file that ends in .npy.")
    if path.is_dir():
        raise InvalidInput("path", f"{path} is a folder", "Name a file.")
    writable("path", path)


def _refuse_others(path: Path, partial: Path, ledger: TileJournal | None, key: str) -> None:
    if path.exists():
        raise InvalidInput(
            "path",
            f"{path} exists and is not the whole kernel of this call, or is damaged",
            "Remove it, or name another file.",
        )
    if partial.exists() and ledger is not None and ledger.header.key != key:
        raise InvalidInput(
            "path",
            f"{partial} is the beginning of another kernel (other inputs, architecture, get or dtype)",
            f"Repeat the call that began it, or remove it and {journal_path(path)}, or name another file.",
        )
