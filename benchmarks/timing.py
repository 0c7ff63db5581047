"""How long something takes, measured the same way everywhere."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from scipy.linalg import get_blas_funcs
from threadpoolctl import threadpool_info

from nngp_prior.numerics.linalg import cholesky

T = TypeVar("T")

LONG = 20.0  # seconds; what takes longer runs once
REPEATS = 3
HOW = f"wall time: one warm-up, then the median of {REPEATS} runs; what takes longer than {LONG:g} s runs once"


class Timed(NamedTuple, Generic[T]):
    """What a function returned in its last run, and the median of its times."""

    value: T
    seconds: float


def measure(function: Callable[[], T], seconds_of: Callable[[T], float] | None = None) -> Timed[T]:
    """Time a function: a warm-up, then the median of three runs; only once if it is long.

    Args:
        function: without arguments.
        seconds_of: where the function times itself (in another process), its time from its result.

    Returns:
        the last result and the time in seconds.
    """

    def once() -> Timed[T]:
        began = time.perf_counter()
        value = function()
        seconds = time.perf_counter() - began
        return Timed(value, seconds if seconds_of is None else seconds_of(value))

    last = once()
    if not last.seconds <= LONG:  # NaN where a peer failed
        return last
    seconds = []
    for _ in range(REPEATS):
        del last  # so that the next run has its memory: on a virtual machine memory that is new costs time
        last = once()
        seconds.append(last.seconds)
    return Timed(last.value, statistics.median(seconds))


def best_of(once: Callable[[], float], repeats: int = 5, at_least: float = 1.0) -> float:
    """The least of the times that ``once`` returns: of five, or of as many as a second has room for."""
    began, times = time.perf_counter(), []
    while len(times) < repeats or time.perf_counter() - began < at_least:
        times.append(once())
    return min(times)


def cholesky_seconds(K: np.ndarray, repeats: int = 5) -> float:
    """One float64 Cholesky factorisation of K, in place and in Fortran order: the best of some.

    LAPACK's ``potrf``; above n = 8,192 in panels, since OpenBLAS's threaded one crashes at n = 20,000.

    Args:
        K: symmetric positive definite.
        repeats: at least so many.

    Returns:
        seconds.
    """

    def once() -> float:
        A = np.array(K, order="F")
        began = time.perf_counter()
        cholesky(A)
        return time.perf_counter() - began

    return best_of(once, repeats)


def product_rate(dtype: type[np.floating], n: int = 2048) -> float:
    """Operations a second of a matrix product (``gemm``), 2 n³ operations: the best of at least five."""
    A = np.asfortranarray(np.random.default_rng(0).standard_normal((n, n)), dtype=dtype)
    (gemm,) = get_blas_funcs(("gemm",), (A,))

    def once() -> float:
        began = time.perf_counter()
        gemm(1.0, A, A)
        return time.perf_counter() - began

    return 2 * n**3 / best_of(once)


def blas_threads() -> int:
    """Threads of the BLAS in this process; peers in processes of their own get as many."""
    return max(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
