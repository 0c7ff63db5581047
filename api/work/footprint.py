"""Memory of a worker that computes a kernel, from the shape of the inputs; does not load JAX."""

from __future__ import annotations

import math

from nngp_prior.architectures import layers_of
from nngp_prior.kernels import KernelJob
from nngp_prior.kernels.footprint import working_bytes

_COMPILER = 2**27  # compiled JAX code, beyond an idle worker
_COPIES = 2  # float64 copies of all inputs: loaded and validated


def bytes_of_inputs(job: KernelJob, n: int) -> int:
    """Return the peak bytes of the inputs in a worker.

    Args:
        job: kernel job.
        n: number of inputs, which may differ from the job's.

    Returns:
        bytes.
    """
    return 8 * _COPIES * n * math.prod(job.X.shape[1:])


def bytes_of_kernel(job: KernelJob, n: int, threads: int) -> int:
    """Return the workspace of a kernel computation, without inputs and matrix.

    Args:
        job: kernel job.
        n: number of inputs, which may differ from the job's.
        threads: number of concurrent tiles.

    Returns:
        bytes at peak.
    """
    itemsize = 4 if job.dtype == "float32" else 8
    both = 2 if job.get == "ntk" else 1
    return both * working_bytes(layers_of(job.architecture), job.X.shape[1:], n, threads, itemsize) + _COMPILER
