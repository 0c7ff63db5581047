"""Memory and time of estimates; estimates that exceed the free memory are refused."""

from __future__ import annotations

from collections.abc import Callable

import psutil

from nngp_prior.errors import ResourceLimit
from nngp_prior.numerics.backends import on_device
from nngp_prior.numerics.fitting import largest_that_fits
from nngp_prior.numerics.threads import cores
from nngp_prior.schemas.specs.estimator import (
    EP,
    GHK,
    SMC,
    BernsteinYue,
    ClosedForm,
    Estimator,
    Laplace,
    MinimaxTilting,
    Sampling,
    classes_of,
    more_than_two,
)

_FIXED = 2**25  # buffers of BLAS, blocks of rows
_COMPILER = 2**27  # JAX and its compiled code
COLUMNS = 1024  # particles per thread at a time: enough for matrix products, few enough for the cache
MOST_PARTICLES = 4096  # per replicate, with a target standard error
MOST_BY_DEFAULT = 256  # per replicate, if neither their number nor a target is given
_AHEAD = 256  # coordinates whose means are computed ahead together
COLUMNS_ON_DEVICE = 8192  # particles side by side: all of the default's replicates


def backend_of(estimator: Estimator) -> str:
    """Return the requested back end; estimators without EP run on the host only."""
    return estimator.backend if isinstance(estimator, EP | SMC) else "numpy"


def constraints(n: int, estimator: Estimator) -> int:
    """Return the number of orthant constraints for n inputs: one per input, or C - 1 with C classes."""
    return n * ((classes_of(estimator) or 2) - 1)


def memory_needed(n: int, estimator: Estimator, threads: int | None = None) -> int:
    """Return the peak memory of one estimate on an n × n matrix, without the matrix itself.

    Args:
        n: number of inputs.
        estimator: specification of the estimator.
        threads: number of particle groups run in parallel; default: one per core.

    Returns:
        bytes, on the device if the estimator's matrices are there.
    """
    threads = threads or cores()
    if more_than_two(estimator):
        m, others = constraints(n, estimator), (classes_of(estimator) or 2) - 1
        # The kernel's factor, its correlations while those of the differences are computed, and blocks of these.
        return 16 * n * n + 32 * others * (m + others) + _needed(m, estimator, threads)
    return _needed(n, estimator, threads)


def _needed(n: int, estimator: Estimator, threads: int) -> int:
    """As :func:`memory_needed`, for n constraints with given covariance."""
    if on_device(backend_of(estimator)):
        return _needed_on_device(n, estimator)
    match estimator:
        case SMC():
            # L; in float32 EP's factor and the widened one. Then the particles.
            return 16 * n * n + _of_particles(n, estimator, 3, threads) + _COMPILER + _FIXED
        case GHK():
            return 8 * n * n + _of_particles(n, estimator, 1, threads) + _COMPILER + _FIXED
        case MinimaxTilting():  # L, M and the matrix of a Newton step; then the particles
            return 8 * n * n + max(24 * n * n, _of_particles(n, estimator, 2, threads) + _COMPILER) + _FIXED
        case EP():
            return 24 * n * n + _FIXED
        case ClosedForm():
            return 24 * n * n + _FIXED
        case _:  # draws are made in chunks
            return 24 * n * n + 3 * 2**26 + _FIXED


def _of_particles(n: int, estimator: SMC | GHK | MinimaxTilting, proposals: int, threads: int) -> int:
    """Bytes of all particles: those processed side by side, and the data kept per particle."""
    particles, replicates = _most_particles(estimator), estimator.replicates
    if isinstance(estimator, SMC) and estimator.target_stderr is not None:
        replicates = max(estimator.max_replicates, replicates)
    # Uniform numbers and whitened variables; means of the coordinates ahead; a block, and its copies for compiled code.
    column = 8 * n * (1 + proposals) + 8 * proposals * min(n, _AHEAD) + 4000 + 1500 * proposals
    kept = 80 + 10 * proposals  # weights and densities, and their copies for the diagnostics
    return threads * max(COLUMNS, particles) * column + particles * replicates * kept


def _most_particles(estimator: SMC | GHK | MinimaxTilting) -> int:
    """Upper bound on the number of particles per replicate, whatever a pilot decides."""
    if estimator.particles is not None:
        return estimator.particles
    return MOST_BY_DEFAULT if estimator.target_stderr is None else MOST_PARTICLES


def _needed_on_device(n: int, estimator: Estimator) -> int:
    """Device memory as in :mod:`nngp_prior.numerics.device`, with the copies of operands."""
    match estimator:
        case SMC():
            return 22 * n * n + _columns(estimator) * n * 16 + 2**28
        case _:
            return 28 * n * n + 2**28


def _needed_beside_device(n: int, estimator: Estimator) -> int:
    """Host bytes while matrices are on a device: uniform numbers and rows of K; for ``ep2`` the factor."""
    if more_than_two(estimator):  # the matrices are computed on the host
        made = constraints(n, estimator)
        return 16 * n * n + 20 * made * made + (_columns(estimator) * made * 16 if isinstance(estimator, SMC) else 0)
    # A singular kernel, which cannot be detected beforehand, is factored on the host and needs two more matrices.
    match estimator:
        case SMC():
            return _columns(estimator) * n * 16 + _FIXED
        case _:
            return (0 if estimator.kind == "ep" else 16 * n * n) + _FIXED


def _columns(estimator: SMC) -> int:
    """Number of particles side by side on a device."""
    most = _most_particles(estimator)
    return max(min(COLUMNS_ON_DEVICE, most * estimator.max_replicates), most)


def require_memory(n: int, estimator: Estimator, with_kernel: bool = False) -> None:
    """Refuse work that does not fit before it starts.

    Args:
        n: number of inputs.
        estimator: specification of the estimator.
        with_kernel: True if the matrix itself is still to be computed.

    Raises:
        ResourceLimit: if the memory does not suffice; the message names the largest n that would fit.
    """
    kernel = with_kernel * 8
    free = psutil.virtual_memory().available
    free_on_device = _free_on_device() if on_device(backend_of(estimator)) else None
    if free_on_device is None:
        _refuse_beyond(free, n, estimator, lambda n: memory_needed(n, estimator) + kernel * n * n)
    else:
        _refuse_beyond(free, n, estimator, lambda n: _needed_beside_device(n, estimator) + kernel * n * n)
        _refuse_beyond(free_on_device, n, estimator, lambda n: memory_needed(n, estimator), device=True)


def require_memory_for_double(n: int, m: int) -> None:
    """Refuse ``smc`` with float64 proposals, which only nearly singular kernels need, if they do not fit.

    Args:
        n: number of inputs.
        m: number of constraints, whose factor is already in memory.

    Raises:
        ResourceLimit: if two more matrices do not fit.
    """
    free = psutil.virtual_memory().available
    if 16 * m * m > free:
        raise ResourceLimit(
            f"n: K is so close to singular that smc on n = {n:,} inputs needs float64 throughout, "
            f"{16 * m * m / 2**30:.1f} GiB more, and {free / 2**30:.1f} GiB are free. Pass jitter=1e-5 (the estimate "
            "is then of K + cI), or use fewer inputs."
        )


def _refuse_beyond(free: int, n: int, estimator: Estimator, needed: Callable[[int], int], device: bool = False) -> None:
    if needed(n) > free:
        largest = largest_that_fits(n, free, needed)
        where, remedy = "", "a machine with more memory"
        of = f" of {classes_of(estimator)} classes" if more_than_two(estimator) else ""
        if device:
            where = " of the device"
            remedy = "set XLA_PYTHON_CLIENT_MEM_FRACTION=0.95 (JAX takes 0.75 of the device), or backend='numpy'"
        raise ResourceLimit(
            f"n: {estimator.kind} on n = {n:,} inputs{of} needs {needed(n) / 2**30:.1f} GiB{where} and "
            f"{free / 2**30:.1f} GiB are free. Use at most {largest:,} inputs, or {remedy}."
        )


def _free_on_device() -> int | None:
    """Bytes that JAX may still allocate on its device; None if that is the processor, whose memory is the host's."""
    import jax

    statistics = jax.local_devices()[0].memory_stats()
    return statistics["bytes_limit"] - statistics["bytes_in_use"] if statistics else None


def seconds_needed(n: int, estimator: Estimator) -> float:
    """Operations divided by the rates measured on two cores; infinite instead of an overflow."""
    return _seconds(float(min(constraints(n, estimator), 10**100)), estimator)


def _seconds(n: float, estimator: Estimator) -> float:
    """As :func:`seconds_needed`, for n constraints."""
    match estimator:
        case SMC():
            particles = estimator.fewest_particles * (estimator.replicates + 8)
            return 0.03 + 4 * n**3 / 1.5e11 + 2 * n * n * particles / 1.5e11 + n * particles * 2e-7
        case GHK():
            particles = estimator.particles * estimator.replicates
            return 0.03 + n**3 / 3 / 1.5e11 + n * n * particles / 1.5e11 + particles * (3e-6 + n * 1.3e-8)
        case MinimaxTilting():
            particles = estimator.particles * estimator.replicates
            return 0.05 + 10 * n**3 / 1.5e11 + 2 * n * n * particles / 1.5e11 + particles * n * 1e-7
        case EP():
            return 0.002 + n * 1e-4 + 20 * n**3 / 1.5e11
        case Laplace():
            return 0.002 + 8 * n**3 / 1.5e11
        case BernsteinYue():
            return 0.01 + (n**3 + n * n * estimator.draws) / 1.5e11 + n * estimator.draws * 4e-8
        case Sampling():
            return 2 * n * n * estimator.draws / 1.5e11 + n * estimator.draws * 1.5e-8
        case _:
            return 0.01 + n * 1e-4 + 5e-8 * n * n + n**3 / 3 / 1.5e11
