"""Tiled computation of a kernel matrix on all cores; only the upper triangle of a symmetric one.

All tiles have the same size, so that few shapes are compiled: inputs are cut into blocks as equal as can be, and the
last block is padded with inputs of ones, whose rows are discarded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from nngp_prior.errors import InvalidInput
from nngp_prior.executors import SharedArray, task_runner
from nngp_prior.kernels.copies import Copies
from nngp_prior.kernels.job import KernelJob
from nngp_prior.numerics.chunks import even_chunks
from nngp_prior.numerics.threads import cores, on_all_cores, one_thread_blas
from nngp_prior.schemas.specs.architecture import Architecture

_WAITING = 2**31  # bytes of tiles of an executor that were computed and not written


@dataclass(frozen=True)
class Tile:
    """Rows and columns of a part of the matrix."""

    rows: slice
    columns: slice

    @property
    def on_diagonal(self) -> bool:
        """True if its rows are its columns, in a symmetric matrix."""
        return self.rows == self.columns


@dataclass(frozen=True)
class Grid:
    """The tiles of an n × n2 matrix.

    Attributes:
        n: number of rows.
        n2: number of columns.
        tile: maximum number of rows, and of columns, of a tile.
        symmetric: True if tiles below the diagonal are mirror images.
    """

    n: int
    n2: int
    tile: int
    symmetric: bool

    @property
    def height(self) -> int:
        """Number of rows of each tile but the last."""
        return even_chunks(self.n, self.tile)[1]

    @property
    def width(self) -> int:
        """Number of columns of each tile but the last."""
        return even_chunks(self.n2, self.tile)[1]

    @cached_property
    def tiles(self) -> list[Tile]:
        """All tiles to compute, row by row."""
        return [
            Tile(slice(i, min(i + self.height, self.n)), slice(j, min(j + self.width, self.n2)))
            for i in range(0, self.n, self.height)
            for j in range(i if self.symmetric else 0, self.n2, self.width)
        ]

    def put(self, K: Float[np.ndarray, "n n2"], tile: Tile, block: Float[np.ndarray, "rows columns"]) -> None:
        """Write a tile into the matrix, and its mirror image if there is one."""
        K[tile.rows, tile.columns] = block
        if self.symmetric and not tile.on_diagonal:
            K[tile.columns, tile.rows] = block.T

    def __len__(self) -> int:
        blocks, blocks2 = -(-self.n // self.height), -(-self.n2 // self.width)
        return blocks * (blocks + 1) // 2 if self.symmetric else blocks * blocks2


def function_of(job: KernelJob) -> Any:
    """Return the compiled recursion of a job's kernel; JAX is loaded only then."""
    from nngp_prior.architectures import layers_of
    from nngp_prior.kernels.recursion import kernel_function

    return kernel_function(layers_of(job.architecture), job.X.shape[1:], get=job.get, dtype=job.dtype)


def compute(
    job: KernelJob,
    function: Any,
    grid: Grid,
    places: Sequence[int],
    write: Callable[[int, Float[np.ndarray, "rows columns"]], None],
    executor: Executor | None = None,
) -> Iterator[int]:
    """Compute tiles on all cores, or on an executor, with the same bits.

    Args:
        job: the kernel job.
        function: recursion of the kernel, from :func:`function_of`.
        grid: tiles of the whole matrix.
        places: indices in ``grid.tiles``.
        write: called with the index and the entries of a finished tile; from several threads at once.
        executor: executor whose workers compute the tiles; None for this process.

    Yields:
        the indices, after the tiles were written.

    Raises:
        InvalidInput: if a tile has values that are not finite, since inputs are too large.
        ResourceLimit: if a worker of the executor died.
    """
    copies = Copies.of(job, lambda smaller: _whole(smaller, function, executor)) if len(places) else None

    def finished(place: int, block: np.ndarray) -> None:
        tile = grid.tiles[place]
        if copies:
            block = block.copy()  # JAX's arrays are read-only
            copies.apply(tile.rows, tile.columns, block)
        _check(job, tile, block)
        write(place, block)

    yield from _compute(job, function, grid, places, finished, executor)


def _whole(job: KernelJob, function: Any, executor: Executor | None) -> Float[np.ndarray, "n n2"]:
    """Compute a small kernel, without special treatment of copies."""
    K, grid = np.empty(job.shape, job.dtype), Grid(*job.shape, function.tile, job.symmetric)

    def write(place: int, block: np.ndarray) -> None:
        grid.put(K, grid.tiles[place], block)

    for _ in _compute(job, function, grid, range(len(grid)), write, executor):
        pass
    return K


def _compute(
    job: KernelJob,
    function: Any,
    grid: Grid,
    places: Sequence[int],
    write: Callable[[int, Float[np.ndarray, "rows columns"]], None],
    executor: Executor | None,
) -> Iterator[int]:
    if executor is not None and len(places):
        yield from _compute_on(executor, job, grid, places, write)
        return
    blocks = _Blocks(job, function, grid)

    def one(place: int) -> None:
        with one_thread_blas():  # even for a single tile: the same bits for any number of cores
            write(place, blocks.of(place))

    for index, _ in on_all_cores(one, places):
        yield places[index]


class _Blocks:
    """The entries of tiles; may be called from several threads at once."""

    def __init__(self, job: KernelJob, function: Any, grid: Grid) -> None:
        self._job, self._function, self._grid = job, function, grid
        # Per-input data are kept for the row of tiles that the threads process.
        self._prepared = functools.lru_cache(maxsize=2 * cores() + 1)(self._prepare)

    def of(self, place: int) -> Float[np.ndarray, "rows columns"]:
        """Compute a tile."""
        tile = self._grid.tiles[place]
        rows, columns = tile.rows, tile.columns
        P = self._prepared(True, rows.start, rows.stop)
        if self._job.symmetric and tile.on_diagonal:  # exactly symmetric, and an input's correlation with itself is 1
            block = self._function.within(P)
        else:
            block = self._function.between(P, self._prepared(self._job.symmetric, columns.start, columns.stop))
        return block[: rows.stop - rows.start, : columns.stop - columns.start]

    def _prepare(self, of_rows: bool, start: int, stop: int) -> Any:
        job, grid = self._job, self._grid
        X, size = (job.X, grid.height) if of_rows or job.symmetric else (job.columns, grid.width)
        return self._function.prepare(padded(X[start:stop], size))


def _compute_on(
    executor: Executor,
    job: KernelJob,
    grid: Grid,
    places: Sequence[int],
    write: Callable[[int, Float[np.ndarray, "rows columns"]], None],
) -> Iterator[int]:
    """Compute tiles in tasks of an executor, one each."""
    ahead = max(16, _WAITING // (grid.height * grid.width * np.dtype(job.dtype).itemsize))
    with task_runner(executor) as runner:
        X, X2 = runner.share(job.X), None if job.X2 is None else runner.share(job.X2)
        tasks = ((X, X2, job.architecture, job.get, job.dtype, grid, place) for place in places)
        for index, block in runner.run(_compute_there, tasks, ahead):
            write(places[index], block)
            yield places[index]


def _compute_there(
    X: SharedArray, X2: SharedArray | None, architecture: Architecture, get: str, dtype: str, grid: Grid, place: int
) -> Float[np.ndarray, "rows columns"]:
    """Compute a tile in a worker."""
    with one_thread_blas():
        return _blocks_there(X, X2, architecture, get, dtype, grid).of(place)  # pyright: ignore[reportArgumentType]


@functools.lru_cache(maxsize=2)
def _blocks_there(
    X: SharedArray, X2: SharedArray | None, architecture: Architecture, get: str, dtype: str, grid: Grid
) -> _Blocks:
    job = KernelJob.of(architecture, X.load(), None if X2 is None else X2.load(), get, dtype)
    return _Blocks(job, function_of(job), grid)


def padded(part: Float[np.ndarray, "rows ..."], size: int) -> Float[np.ndarray, "{size} ..."]:
    """Pad inputs with inputs of ones up to ``size``."""
    missing = size - len(part)
    return part if missing == 0 else np.concatenate([part, np.ones((missing, *part.shape[1:]))])


def _check(job: KernelJob, tile: Tile, block: np.ndarray) -> None:
    finite = np.isfinite(block)
    if finite.all():
        return
    row, column = np.unravel_index(int(np.argmin(finite)), block.shape)
    suspects = [
        ("X", int(tile.rows.start + row), job.X),
        ("X" if job.symmetric else "X2", int(tile.columns.start + column), job.columns),
    ]
    raise overflow(*max(suspects, key=lambda suspect: np.abs(suspect[2][suspect[1]]).max()))


def overflow(name: str, i: int, inputs: Float[np.ndarray, "n ..."]) -> InvalidInput:
    """Error for a kernel that overflows.

    Args:
        name: name of the argument.
        i: index of the input.
        inputs: all inputs.

    Returns:
        the error.
    """
    return InvalidInput(
        name,
        f"the kernel of input {i} overflows (its largest value is {np.abs(inputs[i]).max():.1e})",
        f"Scale {name} down, or choose smaller weight_std and bias_std.",
    )
