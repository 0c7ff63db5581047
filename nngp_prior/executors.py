"""Computations in tasks of an executor. Large arrays travel once, as files in a folder that all workers reach."""

from __future__ import annotations

import functools
import itertools
import math
import pickle
import queue
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from nngp_prior.errors import InvalidInput, ResourceLimit
from nngp_prior.numerics.hashing import digest
from nngp_prior.settings import Settings

Value = TypeVar("Value")
Result = TypeVar("Result")

_SECONDS, _FEWEST = 2.0, 16  # of a task: target time; and tasks, if there are as many items, to balance the load
_AHEAD = 1024  # tasks submitted before their results are taken
_LOST = {  # exceptions of Dask and Parsl for workers that died, which are known by name: neither is imported
    "KilledWorker",
    "NoValidWorkerError",
    "NoWorkerError",
    "ClosedClientError",
    "ManagerLost",
    "WorkerLost",
    "BadStateException",
}


@dataclass(frozen=True)
class SharedArray:
    """Array in a file; two are equal if their contents are.

    Attributes:
        sha256: hash of the content.
        path: path of the file.
        shape: shape of the array.
    """

    sha256: str
    path: str = field(compare=False)
    shape: tuple[int, ...] = field(compare=False)

    def load(self) -> np.ndarray:
        """Return a copy of the array, which outlives the file.

        Raises:
            ResourceLimit: if the file is not there: the worker does not reach the folder.
        """
        return np.array(self._mapped())

    def rows(self, part: range | slice) -> np.ndarray:
        """Return a copy of some rows, which outlives the file.

        Args:
            part: consecutive indices.

        Raises:
            ResourceLimit: as :meth:`load`.
        """
        return np.array(self._mapped()[part.start : part.stop])

    def _mapped(self) -> np.ndarray:
        try:
            return np.load(self.path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            error = _unreachable(self.path)
        raise error


@dataclass(frozen=True)
class Common(Generic[Value]):
    """Value that all tasks of a call share, such as a user's network, whose copies would be compiled one by one.

    Attributes:
        call: identifier of the call.
        sent: copy of the value that came with a task.
    """

    call: str
    sent: Value = field(compare=False)

    @property
    def value(self) -> Value:
        """The first copy that this process received."""
        return _first(self).sent


@functools.lru_cache(maxsize=4)
def _first(common: Common[Any]) -> Common[Any]:
    return common


class TaskRunner:
    """Runs the tasks of a call on an executor; created by :func:`task_runner`.

    Args:
        executor: the executor.
        folder: folder of the arrays, which lasts as long as the call.
    """

    def __init__(self, executor: Executor, folder: Path) -> None:
        self._executor, self._folder = executor, folder

    def share(self, array: np.ndarray) -> SharedArray:
        """Write an array to a file, once.

        Args:
            array: the array.

        Returns:
            the file, to be passed to tasks.

        Raises:
            ResourceLimit: if the file cannot be written.
        """
        sha256 = digest(array)
        path = self._folder / f"{sha256}.npy"
        try:
            if not path.exists():
                np.save(path, array)
        except OSError as error:
            problem = f"an array of {array.nbytes / 2**30:.1f} GiB cannot be written to {self._folder.parent} ({error})"
            raise ResourceLimit(f"NNGP_SHARED: {problem}. Make room, or name another folder.") from None
        return SharedArray(sha256, str(path), array.shape)

    def common(self, value: Value) -> Common[Value]:
        """Return a value for tasks, of which a worker uses the first copy that it receives."""
        return Common(str(self._folder), value)

    def run(
        self, work: Callable[..., Result], tasks: Iterable[tuple[Any, ...]], ahead: int = _AHEAD
    ) -> Iterator[tuple[int, Result]]:
        """Yield the results of tasks as they finish, with their indices.

        If a task fails, or the iterator is closed, the call has ended: tasks that are not running are cancelled,
        running ones are waited for, and those of executors that cannot cancel end when they begin.

        Args:
            work: function of a module, which workers can import.
            tasks: its arguments.
            ahead: number of tasks submitted before their results are taken, a limit on the memory of results.

        Yields:
            index and result.

        Raises:
            InvalidInput: if the arguments of a task cannot be sent to another process.
            ResourceLimit: if a worker died.
        """
        left = enumerate(tasks)
        running: dict[Future[Result], tuple[int, tuple[Any, ...]]] = {}
        finished: queue.SimpleQueue[Future[Result]] = queue.SimpleQueue()

        def submit(count: int) -> None:
            for place, arguments in itertools.islice(left, count):
                with lost_as_limit():
                    future = self._executor.submit(_carry_out, str(self._folder), work, *arguments)
                running[future] = place, arguments
                future.add_done_callback(finished.put)

        try:
            submit(ahead)
            while running:
                future = finished.get()
                place, arguments = running.pop(future)
                if isinstance(self._executor, ProcessPoolExecutor) and not future.cancelled() and future.exception():
                    _require_picklable(arguments)
                result = result_of(future)
                submit(1)
                yield place, result
        finally:
            if running:
                shutil.rmtree(self._folder, ignore_errors=True)
                stop(running)


@contextmanager
def task_runner(executor: Executor) -> Iterator[TaskRunner]:
    """Open a folder for the arrays of a call, which is removed at the end.

    Args:
        executor: the executor.

    Yields:
        runner of its tasks.

    Raises:
        InvalidInput: if the executor is invalid, or the folder ``NNGP_SHARED`` cannot be written to.
    """
    checked_executor(executor)
    folder = Settings().shared
    try:
        inner = tempfile.TemporaryDirectory(prefix="nngp-prior-", dir=folder, ignore_cleanup_errors=True)
    except OSError as error:
        raise InvalidInput("NNGP_SHARED", f"{folder} cannot be written to ({error})", "Name another folder.") from None
    with inner as name:
        yield TaskRunner(executor, Path(name))


def checked_executor(executor: Executor) -> Executor:
    """Refuse what is no executor, and processes that are forked.

    Args:
        executor: value to check.

    Returns:
        the executor.

    Raises:
        InvalidInput: if it is no ``concurrent.futures.Executor``; or forks its processes, in which JAX, whose threads
            do not survive a fork, may wait forever.
    """
    if not isinstance(executor, Executor):
        remedy = "Pass a concurrent.futures.Executor, such as client.get_executor(pure=False) of a Dask client."
        raise InvalidInput("executor", f"got {type(executor).__name__}", remedy)
    context: Any = getattr(executor, "_mp_context", None)
    if isinstance(executor, ProcessPoolExecutor) and context.get_start_method() == "fork":
        problem = "its processes are forked, and JAX may wait forever in a forked process"
        remedy = 'Pass ProcessPoolExecutor(…, multiprocessing.get_context("spawn")).'
        raise InvalidInput("executor", problem, remedy)
    return executor


def result_of(future: Future[Result]) -> Result:
    """Return the result of a task.

    Args:
        future: a finished future.

    Returns:
        its result.

    Raises:
        ResourceLimit: if its worker died, or the executor cancelled it.
    """
    with lost_as_limit():
        return future.result()


@contextmanager
def lost_as_limit() -> Iterator[None]:
    """Raise :class:`ResourceLimit` in place of the exceptions with which executors report that workers died."""
    try:
        yield
    except CancelledError as error:
        raise ResourceLimit(
            "executor: it cancelled a task, because it was shut down or lost its scheduler. Call again with a new one."
        ) from error
    except Exception as error:
        if isinstance(error, BrokenExecutor) or type(error).__name__ in _LOST:
            problem = f"a worker ended without a result, perhaps for lack of memory or time ({error})"
            raise ResourceLimit(
                f"executor: {problem}. Call again with a new executor that has fewer workers per machine, or more "
                "memory or time for each."
            ) from error
        raise


def stop(futures: Iterable[Future[Any]]) -> None:
    """Cancel futures, and wait for running ones."""
    running = []
    for future in futures:
        try:
            cancelled = future.cancel()
        except NotImplementedError:  # Parsl
            cancelled = False
        if not cancelled and future.running():
            running.append(future)
    wait(running)


def blocks(count: int, seconds: float) -> list[range]:
    """Divide items into tasks.

    Args:
        count: number of items.
        seconds: expected time of an item.

    Returns:
        indices of the items of each task: of about two seconds, and at least 16 tasks if there are as many items.
    """
    size = max(1, min(math.ceil(_SECONDS / max(seconds, 1e-6)), math.ceil(count / _FEWEST)))
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def _carry_out(folder: str, work: Callable[..., Result], *arguments: Any) -> Result:
    """Carry out a task in a worker, unless its call has ended, in which case its folder is gone."""
    if not Path(folder).is_dir():
        raise _unreachable(folder)
    return work(*arguments)


def _unreachable(path: str) -> ResourceLimit:
    return ResourceLimit(
        f"executor: a worker cannot read {path}. Set NNGP_SHARED to a folder that all workers reach by the same path."
    )


def _require_picklable(arguments: Sequence[Any]) -> None:
    try:
        pickle.dumps(arguments)
    except Exception as error:
        problem = f"its processes cannot receive the arguments ({error})"
        remedy = "Define a network's functions in a module; or use an executor that sends any function, such as Dask's."
        raise InvalidInput("executor", problem, remedy) from error
