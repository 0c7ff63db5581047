"""Infinite-width kernels of architectures on data."""

from __future__ import annotations

import os
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from nngp_prior.architectures import FromNetwork
from nngp_prior.architectures.inputs import check_inputs, requires_architecture
from nngp_prior.errors import InvalidInput
from nngp_prior.executors import checked_executor
from nngp_prior.kernels.cost import cost_of, require_memory
from nngp_prior.kernels.disk import on_disk
from nngp_prior.kernels.job import KernelJob
from nngp_prior.kernels.tiles import Grid, compute, function_of, overflow, padded
from nngp_prior.progress import Progress, ProgressCallback, ProgressOption, shown
from nngp_prior.schemas.specs.architecture import Architecture

_BLOCK = 32  # inputs of a user's network per block of the kernel from which the diagonal is taken


@requires_architecture
def kernel(
    architecture: Architecture | FromNetwork,
    X: ArrayLike,
    X2: ArrayLike | None = None,
    *,
    get: str = "nngp",
    dtype: str = "float64",
    executor: Executor | None = None,
    progress: ProgressOption = None,
    path: str | os.PathLike[str] | None = None,
) -> Float[np.ndarray, "n n2"]:
    """Compute the kernel of a network at infinite width.

    The NNGP kernel is the covariance of the network's output at two inputs, over its random weights; the NTK (neural
    tangent kernel) governs its training by gradient flow.

    Args:
        architecture: specification of the network, or a user's own network with a ``kernel_fn``.
        X: (n, …) inputs. For a fully connected network all axes but the first are flattened; others take images, (n,
            height, width) or (n, height, width, channels), and a user's network the shape it expects.
        X2: (n2, …) other inputs; default: X itself, in which case only the upper triangle is computed.
        get: ``nngp``, ``ntk``, or ``d-weight-std`` or ``d-bias-std``: the derivative of the NNGP kernel with respect to
            σ_w or σ_b of all layers. Passed unchanged to a user's ``kernel_fn``.
        dtype: ``float64``, or ``float32`` for speed: dtype of the computation and of the matrix.
        executor: executor whose workers compute the tiles, with the same result; see
            :func:`nngp_prior.log_probabilities`. Default: this process.
        progress: True to show progress, or a callback, called with the expected cost and after each tile.
        path: path of a ``.npy`` file to which the matrix is written, tile by tile, instead of memory. Repeating an
            interrupted call resumes it; repeating a finished one returns the existing matrix, once its checksums hold.

    Returns:
        K, exactly symmetric without X2; with ``path`` a read-only map of the file.

    Raises:
        InvalidInput: if an argument is invalid: inputs that are not finite numbers, of another shape than the
            architecture takes, or so large that the kernel overflows; a file with other content, or a damaged one.
        ResourceLimit: if the matrix does not fit into memory, or on the disk, or a worker of the executor died.
    """
    if executor is not None:
        checked_executor(executor)
    if isinstance(architecture, FromNetwork):
        for field, value, only in (("dtype", dtype, "float64"), ("path", path, None)):
            if value != only:
                raise InvalidInput(field, f"got {value!r} for a network of your own", f"Only {only!r} is known there.")
        from nngp_prior.kernels.from_network import kernel_of_network  # loads JAX

        return kernel_of_network(architecture, X, X2, get, progress, executor)
    job = KernelJob.of(architecture, X, X2, get, dtype)
    with shown(progress, f"kernel of {job.shape[0]:,} inputs") as tell:
        if path is not None:
            return on_disk(job, Path(path), tell, executor=executor)
        return in_memory(job, tell, executor)


@requires_architecture
def kernel_diagonal(
    architecture: Architecture | FromNetwork, X: ArrayLike, *, get: str = "nngp", dtype: str = "float64"
) -> Float[np.ndarray, " n"]:
    """Compute the diagonal of :func:`kernel`, without the rest of the matrix.

    Args:
        architecture: specification of the network, or a user's own network with a ``kernel_fn``.
        X: (n, …) inputs, as for :func:`kernel`.
        get: ``nngp`` for variances of outputs, or as for :func:`kernel`.
        dtype: ``float64`` or ``float32``.

    Returns:
        the kernel of each input with itself.

    Raises:
        InvalidInput: if an argument is invalid, or the kernel of an input overflows.
    """
    if isinstance(architecture, FromNetwork):
        inputs = check_inputs("X", X, architecture)
        blocks = (inputs[start : start + _BLOCK] for start in range(0, len(inputs), _BLOCK))
        return np.concatenate([kernel(architecture, block, get=get, dtype=dtype).diagonal() for block in blocks])
    job = KernelJob.of(architecture, X, None, get, dtype)
    function = function_of(job)
    height = Grid(*job.shape, function.tile, symmetric=True).height
    blocks = (padded(job.X[start : start + height], height) for start in range(0, len(job.X), height))
    own = np.concatenate([function.prepare(block).own for block in blocks])[: len(job.X)]
    if not np.isfinite(own).all():
        error = overflow("X", int(np.argmin(np.isfinite(own))), job.X)
        raise error
    return own


def in_memory(
    job: KernelJob, progress: ProgressCallback, executor: Executor | None = None
) -> Float[np.ndarray, "n n2"]:
    """Compute a kernel into memory.

    Args:
        job: the kernel job.
        progress: progress callback, called per tile.
        executor: executor of the tiles; None for this process.

    Returns:
        the matrix.
    """
    function = function_of(job)
    require_memory(job, function, in_memory=True)
    grid = Grid(*job.shape, function.tile, job.symmetric)
    K = np.empty(job.shape, job.dtype)
    progress(
        Progress("kernel tiles", 0, len(grid), cost_of(job, function, grid, threads=None if executor is None else 1))
    )

    def write(place: int, block: np.ndarray) -> None:
        grid.put(K, grid.tiles[place], block)

    for done, _ in enumerate(compute(job, function, grid, range(len(grid)), write, executor), start=1):
        progress(Progress("kernel tiles", done, len(grid)))
    return K
