"""Computations in tasks of an executor. Large arrays travel once, as files in a folder that all workers reach."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, as_completed, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nngp_prior.errors import InvalidInput, ResourceLimit
from nngp_prior.numerics.hashing import digest
from nngp_prior.settings import Settings

Result = TypeVar("Result")


@dataclass(frozen=True)
class SharedArray:
    """Array in a file; two are equal if their contents are.

    Attributes:
        sha256: hash of the content.
        path: path of the file.
    """

    sha256: str
    path: str = field(compare=False)

    def load(self) -> np.ndarray:
        """Return the array, read-only; a process reads it once.

        Raises:
            ResourceLimit: if the file is not there: the worker does not reach the folder.
        """
        return _loaded(self)


@functools.lru_cache(maxsize=2)
def _loaded(array: SharedArray) -> np.ndarray:
    try:
        return np.asarray(np.load(array.path, mmap_mode="r", allow_pickle=False))
    except FileNotFoundError:
        raise ResourceLimit(
            f"executor: a worker cannot read {array.path}. Set NNGP_SHARED to a folder that all workers reach by the "
            "same path."
        ) from None


@contextmanager
def shared(array: np.ndarray) -> Iterator[SharedArray]:
    """Write an array to a file for the workers of an executor, which is removed at the end.

    Args:
        array: the array.

    Yields:
        the file, to be passed to tasks.

    Raises:
        InvalidInput: if the folder ``NNGP_SHARED`` cannot be written to.
    """
    folder = Settings().shared
    try:
        inner = tempfile.TemporaryDirectory(prefix="nngp-prior-", dir=folder, ignore_cleanup_errors=True)
    except OSError as error:
        raise InvalidInput("NNGP_SHARED", f"{folder} cannot be written to ({error})", "Name another folder.") from None
    with inner as name:
        sha256 = digest(array)
        path = Path(name) / f"{sha256}.npy"
        np.save(path, array)
        yield SharedArray(sha256, str(path))


def on_executor(
    executor: Executor, work: Callable[..., Result], tasks: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[int, Result]]:
    """Yield the results of tasks as they finish, with their indices.

    If a task fails, or the iterator is closed, tasks that are not running are cancelled and running ones waited for.

    Args:
        executor: executor.
        work: function of a module, which workers can import.
        tasks: its arguments.

    Yields:
        index and result.

    Raises:
        ResourceLimit: if a worker died.
    """
    places: dict[Future[Result], int] = {}
    try:
        for place, arguments in enumerate(tasks):
            places[executor.submit(work, *arguments)] = place
        for future in as_completed(places):
            yield places[future], future.result()
    except BrokenExecutor as error:
        raise ResourceLimit(
            f"executor: a worker ended without a result, perhaps for lack of memory ({error}). Use fewer workers."
        ) from error
    finally:
        for future in places:
            future.cancel()
        wait(places)
