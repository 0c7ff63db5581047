"""Memory, disk space and time of kernels; kernels that do not fit are refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from nngp_prior.architectures import layers_of
from nngp_prior.architectures.inputs import requires_architecture
from nngp_prior.errors import InvalidInput, ResourceLimit
from nngp_prior.kernels.footprint import seconds_of_compilation, seconds_of_pair, states, tile_of
from nngp_prior.kernels.job import KernelJob
from nngp_prior.kernels.tiles import Grid, function_of
from nngp_prior.numerics.fitting import largest_that_fits
from nngp_prior.numerics.threads import cores
from nngp_prior.schemas.base import MOST
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.specs.architecture import Architecture

_COMPILER = 2**28  # JAX and its compiled code


@requires_architecture
def kernel_cost(
    architecture: Architecture,
    n: int,
    input_shape: tuple[int, ...],
    *,
    n2: int | None = None,
    get: str = "nngp",
    dtype: str = "float64",
    on_disk: bool = False,
) -> Cost:
    """Estimate the memory and time of a kernel without computing it.

    Args:
        architecture: specification of the network.
        n: number of inputs.
        input_shape: shape of one input: (d,), or (height, width, channels).
        n2: number of other inputs, if the kernel is not that of X with itself.
        get: as for :func:`nngp_prior.kernel`.
        dtype: ``float64`` or ``float32``.
        on_disk: True if the matrix is written to a file (``path=``).

    Returns:
        bytes that decide whether the work is refused; seconds, correct to a factor of two on otherwise idle cores of
        2020s hardware.

    Raises:
        InvalidInput: if n or n2 is not a positive integer, or another argument is invalid.
    """
    for name, value in (("n", n), ("n2", n if n2 is None else n2)):
        if not isinstance(value, int) or not 1 <= value <= MOST:
            raise InvalidInput(name, f"got {value!r}", f"Pass a positive integer, at most {MOST:,}.")
    # Zeros that take no memory replace the inputs.
    X = np.broadcast_to(0.0, (n, *input_shape))
    X2 = None if n2 is None else np.broadcast_to(0.0, (n2, *input_shape))
    job = KernelJob.of(architecture, X, X2, get, dtype)
    function = function_of(job)
    return cost_of(job, function, Grid(*job.shape, function.tile, job.symmetric), in_memory=not on_disk)


def cost_of(
    job: KernelJob,
    function: Any,
    grid: Grid,
    tiles: int | None = None,
    *,
    in_memory: bool = True,
    threads: int | None = None,
) -> Cost:
    """Estimate the cost of some tiles of a kernel.

    Args:
        job: the kernel job.
        function: recursion of the kernel.
        grid: tiles of the kernel.
        tiles: number of tiles to compute; default: all.
        in_memory: False if the matrix is written to a file.
        threads: number of tiles computed in parallel; default: one per core.

    Returns:
        peak memory and time.
    """
    return Cost(
        _memory(job.shape, job, function, in_memory),
        _seconds(job, grid, len(grid) if tiles is None else tiles, threads or cores()),
    )


def _memory(shape: tuple[int, int], job: KernelJob, function: Any, in_memory: bool) -> int:
    """Bytes of the matrix if it is in memory, and of each thread's tile."""
    grid = Grid(*shape, function.tile, job.symmetric)
    itemsize = np.dtype(job.dtype).itemsize
    # Based on the largest tile size; the actual one is not monotone in n, as the search for the largest n requires.
    pairs = min(shape[0], function.tile) * min(shape[1], function.tile)
    working = min(cores(), len(grid)) * pairs * (function.bytes_per_pair + 3 * itemsize)
    return in_memory * shape[0] * shape[1] * itemsize + int(working) + _COMPILER


def seconds_of_kernel(job: KernelJob, threads: int) -> float:
    """Estimate the time of a whole kernel, without JAX.

    Args:
        job: the kernel job.
        threads: number of tiles computed in parallel.

    Returns:
        seconds, with compilation.
    """
    largest = max(size for _, size in states(layers_of(job.architecture), job.X.shape[1:]))
    grid = Grid(*job.shape, tile_of(largest), job.symmetric)
    return _seconds(job, grid, len(grid), threads)


def _seconds(job: KernelJob, grid: Grid, tiles: int, threads: int) -> float:
    layers, shape = layers_of(job.architecture), job.X.shape[1:]
    each = grid.height * grid.width * seconds_of_pair(layers, shape, job.get, np.dtype(job.dtype).itemsize)
    return seconds_of_compilation(layers, shape, job.get) + tiles * each / min(threads, max(tiles, 1))


def require_memory(job: KernelJob, function: Any, *, in_memory: bool) -> None:
    """Refuse a kernel that does not fit into memory before it is begun.

    Args:
        job: the kernel job.
        function: recursion of the kernel.
        in_memory: True if the matrix is in memory, False if in a file.

    Raises:
        ResourceLimit: if it does not fit; the message names the largest n that would fit.
    """
    free = psutil.virtual_memory().available
    remedy = ", or path= to compute it into a file" if in_memory else ""
    _refuse_beyond(free, "memory", job, lambda shape: _memory(shape, job, function, in_memory), remedy)


def require_disk(job: KernelJob, folder: Path) -> None:
    """Refuse a kernel that does not fit on the disk before it is begun.

    Args:
        job: the kernel job.
        folder: folder of its file.

    Raises:
        ResourceLimit: if it does not fit; the message names the largest n that would fit.
    """
    itemsize = np.dtype(job.dtype).itemsize
    free = shutil.disk_usage(folder).free
    _refuse_beyond(free, f"disk ({folder})", job, lambda shape: shape[0] * shape[1] * itemsize + 2**12, "")


def _refuse_beyond(
    free: int, where: str, job: KernelJob, needed: Callable[[tuple[int, int]], int], alternative: str
) -> None:
    if needed(job.shape) <= free:
        return
    n, n2 = job.shape

    def of(size: int) -> int:
        return needed((size, size if job.symmetric else n2))

    largest = largest_that_fits(n, free, of)
    remedy = f"Use at most {largest:,} inputs{alternative}" if largest else f"Free some {where.split()[0]}"
    raise ResourceLimit(
        f"n: a kernel of {n:,} × {n2:,} inputs takes {needed(job.shape) / 2**30:.1f} GiB of {where} "
        f"and {free / 2**30:.1f} GiB are free. {remedy}."
    )
