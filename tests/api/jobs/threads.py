"""An executor without processes, jobs that have ended, and tables that fail, for tests of the dispatcher."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

from api.executors.base import Cancelled, Capacity, Done, Listener, Outcome, Task
from api.jobs.models import Job
from api.jobs.table import JobTable
from tests.api.jobs.dispatchers import LIMIT

Act = Callable[[Task, Listener, threading.Event], Outcome]


class Threads:
    """An executor without processes: what a task does, its job's name says."""

    def __init__(self, slots: int, cores: int | None = None, memory: int = LIMIT, **acts: Act) -> None:
        self.available = Capacity.of_one_machine(slots, cores or slots, memory)
        self._acts = {"fine": all_rows, **acts}
        self._ends: dict[int, threading.Event] = {}
        self._closed = threading.Event()
        self.cancelled: list[int] = []
        self.began: list[str] = []

    def run(self, task: Task, listener: Listener) -> Outcome:
        name = task.request["name"]
        self.began.append(name)
        self._ends[task.fence] = end = self._closed if self._closed.is_set() else threading.Event()
        try:
            outcome = self._acts[name.rstrip("0123456789")](task, listener, end)
        finally:
            del self._ends[task.fence]
        return Cancelled() if end.is_set() else outcome

    def cancel(self, fence: int) -> None:
        if fence in self._ends:
            self.cancelled.append(fence)
            self._ends[fence].set()

    def capacity(self) -> Capacity:
        return self.available

    def problem(self) -> None:
        return None

    def close(self) -> None:
        self._closed.set()
        for end in tuple(self._ends.values()):
            end.set()


def all_rows(task: Task, listener: Listener, end: threading.Event) -> Outcome:
    for row in task.rows:
        listener.rows([(row, {"labelling": row})])
    return Done()


def until_cancelled(task: Task, listener: Listener, end: threading.Event) -> Outcome:
    end.wait(20)
    return Cancelled()


class Held:
    """Tasks that wait until they are let go."""

    def __init__(self) -> None:
        self.running, self.most, self.begun = 0, 0, threading.Semaphore(0)
        self.go = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, task: Task, listener: Listener, end: threading.Event) -> Outcome:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.begun.release()
        self.go.wait(10)
        with self._lock:
            self.running -= 1
        return all_rows(task, listener, end)


def ended(table: JobTable, *names: str, within: float = 10.0) -> list[Job]:
    """Jobs when all of them have come to an end."""
    changed = threading.Event()
    ignore = table.listen(lambda _: changed.set())
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        changed.clear()
        jobs = [table.get(name) for name in names]
        if all(job is not None and job.finished is not None for job in jobs):
            break
        changed.wait(0.5)
    ignore()
    jobs = [table.get(name) for name in names]
    assert all(job is not None and job.finished is not None for job in jobs), jobs
    return [job for job in jobs if job is not None]


def failing(table: JobTable, method: str, error: Exception, times: int) -> None:
    """A method of a table fails at first."""
    real, calls = getattr(table, method), itertools.count()

    def sometimes(*args: Any, **options: Any) -> Any:
        if next(calls) < times:
            raise error
        return real(*args, **options)

    setattr(table, method, sometimes)
