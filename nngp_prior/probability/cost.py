"""What an estimate needs of memory and time, and the refusal of what does not fit."""

from __future__ import annotations

import bisect
import os

import psutil

from nngp_prior.errors import ResourceLimit
from nngp_prior.schemas.estimator import EP, GHK, SMC, BernsteinYue, Estimator, Laplace, Sampling

_FIXED = 2**25  # buffers of BLAS, blocks of rows
COLUMNS = 1024  # particles side by side in one thread: enough for matrix products, few enough for the cache


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_needed(n: int, estimator: Estimator) -> int:
    """Peak bytes of one estimate on an n × n matrix, the matrix itself not counted."""
    match estimator:
        case SMC(particles=particles):
            # L; in float32 EP's factor and the two matrices that make the widened one. Then the particles of each
            # thread: uniform numbers and whitened variables under three proposals.
            return 20 * n * n + cores() * max(COLUMNS, particles) * n * 32 + _FIXED
        case EP():
            return 24 * n * n + _FIXED
        case _:
            return 24 * n * n + 2**27 + _FIXED


def require_memory(n: int, estimator: Estimator, with_kernel: bool = False) -> None:
    """Refuse work that does not fit before it starts.

    Args:
        n: the number of inputs.
        estimator: what will be run.
        with_kernel: whether the matrix itself is still to be made.

    Raises:
        ResourceLimit: names the largest n that would fit.
    """
    available = psutil.virtual_memory().available

    def needed_for(n: int) -> int:
        return memory_needed(n, estimator) + with_kernel * 8 * n * n

    needed = needed_for(n)
    if needed > available:
        largest = bisect.bisect_right(range(n), available, key=needed_for) - 1
        raise ResourceLimit(
            f"n: {estimator.kind} on n = {n:,} inputs needs {needed / 2**30:.1f} GiB and {available / 2**30:.1f} GiB "
            f"are free. Use at most {largest:,} inputs, or a machine with more memory."
        )


def seconds_needed(n: int, estimator: Estimator) -> float:
    """Operations over the rates that two cores reached in the benchmark."""
    match estimator:
        case SMC():
            particles = estimator.particles * (estimator.replicates + 8)
            return 0.1 + 4 * n**3 / 1.5e11 + 2 * n * n * particles / 1.5e11 + n * particles * 2e-7
        case GHK():
            particles = estimator.particles * estimator.replicates
            return 0.05 + n**3 / 3 / 1.5e11 + n * n * particles / 1.5e11 + n * particles * 1e-7
        case EP():
            return 0.05 + 8 * n**3 / 1.5e11
        case Laplace():
            return 0.05 + 8 * n**3 / 1.5e11
        case BernsteinYue():
            return 0.05 + (n**3 + n * n * estimator.draws) / 1.5e11 + n * estimator.draws * 4e-8
        case Sampling():
            return 2 * n * n * estimator.draws / 1.5e11 + n * estimator.draws * 1.5e-8
        case _:
            return 1e-8 * n * n
