"""Processes that carry out the tasks of a study, and report progress within them."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nngp_prior.experiments.store import Key
from nngp_prior.progress import Progress

Rows = list[tuple[Key, dict[str, Any]]]

_BETWEEN = 0.2  # seconds between two events of a worker
_events: Any = None  # in a worker: the queue to the process that started it


class Workers:
    """Spawned processes, to which tasks are submitted as to an executor.

    Args:
        count: number of processes.
    """

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._numbers = itertools.count()
        self._queue: Any = context.SimpleQueue()
        self._pool = ProcessPoolExecutor(count, context, initializer=_connect, initargs=(self._queue,))
        self._running: dict[int, Future[Rows]] = {}

    def submit(self, carry_out: Callable[..., Rows], task: Any, folder: Path) -> Future[Rows]:
        """Submit a task.

        Args:
            carry_out: function of a task, a folder and a progress callback.
            task: the task.
            folder: folder of the study.

        Returns:
            its rows, once it is carried out.
        """
        number = next(self._numbers)
        self._running[number] = self._pool.submit(_carry_out, number, carry_out, task, folder)
        return self._running[number]

    def events(self) -> list[Progress]:
        """Return the new events of the task that runs longest; those of the others are dropped, to show one task.

        Returns:
            events, oldest first.
        """
        sent = []
        while not self._queue.empty():
            sent.append(self._queue.get())
        oldest = next(iter(self._running), None)
        self._running = {number: future for number, future in self._running.items() if not future.done()}
        return [event for number, event in sent if number == oldest]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._queue.close()


def _connect(queue: Any) -> None:
    global _events
    _events = queue
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process once the one that started it has died: an idle worker would wait for its tasks forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _carry_out(number: int, carry_out: Callable[..., Rows], task: Any, folder: Path) -> Rows:
    last = -_BETWEEN

    def report(event: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if event.cost is None and now - last >= _BETWEEN:
            last = now
            _events.put((number, event))

    return carry_out(task, folder, report)
