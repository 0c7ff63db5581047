"""Memory and time of a worker that computes a kernel, from the shape of the inputs; loads no JAX."""

from __future__ import annotations

import math

from nngp_prior.architectures import layers_of
from nngp_prior.kernels import KernelJob
from nngp_prior.kernels.footprint import seconds_of_pair, working_bytes

_COMPILER = 2**27  # what JAX has compiled, beyond a worker that has computed nothing
_COPIES = 2  # of all inputs, in float64: as they were loaded, and checked
_SECONDS = 2.0  # of compiling


def bytes_of_inputs(job: KernelJob, n: int) -> int:
    """Bytes of the inputs as a worker holds them.

    Args:
        job: the kernel.
        n: number of inputs, if it were another one.

    Returns:
        at peak.
    """
    return 8 * _COPIES * n * math.prod(job.X.shape[1:])


def bytes_of_kernel(job: KernelJob, n: int, threads: int) -> int:
    """Bytes that are worked on while a kernel is computed, without inputs and matrix.

    Args:
        job: the kernel.
        n: number of inputs, if it were another one.
        threads: tiles side by side.

    Returns:
        at peak.
    """
    itemsize = 4 if job.dtype == "float32" else 8
    both = 2 if job.get == "ntk" else 1
    return both * working_bytes(layers_of(job.architecture), job.X.shape[1:], n, threads, itemsize) + _COMPILER


def seconds_of_kernel(job: KernelJob, threads: int) -> float:
    """Rough time of a kernel.

    Args:
        job: the kernel.
        threads: tiles side by side.

    Returns:
        seconds, to a factor of a few.
    """
    pairs = len(job.X) * (len(job.X) + 1) / 2
    return _SECONDS + pairs * seconds_of_pair(layers_of(job.architecture), job.X.shape[1:]) / threads
