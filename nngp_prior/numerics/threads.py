"""Independent parts of a computation on all cores, with single-threaded BLAS."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

from nngp_prior.numerics.cgroup import processors

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_controller = functools.cache(ThreadpoolController)  # finding the libraries takes a millisecond or two
_lock = threading.Lock()
_users = 0
_limits: list[Any] = []  # one element while there are users
_worker = threading.local()
_allowed: int | None = None  # limit on this process's processors, inside use_cores


def cores() -> int:
    """Processors that this process uses: all available ones, or fewer inside :func:`use_cores`.

    Work split by :func:`nngp_prior.numerics.cgroup.processors` has the same bits with fewer cores.

    Returns:
        number of processors.
    """
    return processors() if _allowed is None else min(processors(), _allowed)


@contextmanager
def use_cores(count: int) -> Iterator[None]:
    """Limit the whole process to ``count`` cores, for its own threads and those of BLAS, but not JAX's.

    Args:
        count: number of cores; 0: all. For one computation at a time: such limits do not nest.
    """
    global _allowed
    limits: list[Any] = []
    if count:
        _in_own_thread(lambda: limits.append(_controller().limit(limits=min(count, cores()), user_api="blas")))
        _allowed = count
    try:
        yield
    finally:
        if limits:
            _allowed = None
            _in_own_thread(limits.pop().restore_original_limits)


@contextmanager
def one_thread_blas() -> Iterator[None]:
    """Limit BLAS to one thread, process-wide; re-entrant, until the last user leaves."""
    global _users
    with _lock:
        if _users == 0:
            _in_own_thread(lambda: _limits.append(_controller().limit(limits=1, user_api="blas")))
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _in_own_thread(_limits.pop().restore_original_limits)


def _in_own_thread(change: Callable[[], None]) -> None:
    """Run in a new thread, since threadpoolctl obeys the first thread that set a limit for as long as it lives."""
    thread = threading.Thread(target=change)
    thread.start()
    thread.join()


def on_all_cores(
    work: Callable[[_Item], _Result],
    items: Sequence[_Item],
    threads: int | None = None,
    stop: threading.Event | None = None,
) -> Iterator[tuple[int, _Result]]:
    """Yield results of ``work`` for each item as they finish, with their indices; nested calls run in sequence.

    If a call fails, or the iterator is closed, items not yet begun are dropped; running calls are waited for.

    Args:
        work: function to call, from several threads at once.
        items: its arguments.
        threads: number of threads; default: one per core.
        stop: event that is set when results of running calls are no longer needed.

    Yields:
        index and result.
    """
    threads = threads or cores()
    if len(items) == 1 or threads == 1 or getattr(_worker, "busy", False):
        yield from ((place, work(item)) for place, item in enumerate(items))
        return

    def run(item: _Item) -> _Result:
        _worker.busy = True
        with one_thread_blas():
            return work(item)

    with ThreadPoolExecutor(min(len(items), threads)) as pool:
        places = {pool.submit(run, item): place for place, item in enumerate(items)}
        try:
            for future in as_completed(places):
                yield places[future], future.result()
        finally:
            if stop is not None:
                stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
