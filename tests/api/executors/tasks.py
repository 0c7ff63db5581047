"""Odd tasks, and a listener that records what it is told."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from api.executors.base import Done, Outcome, Task
from api.executors.local import LocalExecutor

ODD = "tests.api.executors.odd_child"


class Heard:
    """Listener that records its calls."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.calls: list[list[tuple[int, dict[str, Any]]]] = []
        self.stages: list[tuple[str, int, int]] = []
        self.begun = threading.Event()
        self._then = then

    @property
    def results(self) -> dict[int, dict[str, Any]]:
        return {place: result for call in self.calls for place, result in call}

    def rows(self, rows: list[tuple[int, dict[str, Any]]]) -> None:
        self.calls.append(rows)
        self._then()

    def progress(self, stage: str, done: int, total: int) -> None:
        self.stages.append((stage, done, total))
        self.begun.set()


fences = itertools.count()


def odd(*rows: str, cores: int = 1, path: str = "") -> Task:
    return Task(next(fences), "odd", {"rows": rows, "path": path}, tuple(range(len(rows))), cores)


def make(folder: Path, slots: int = 1, task_seconds: float = 60.0, **options: Any) -> LocalExecutor:
    return LocalExecutor(slots, home=folder, blobs=folder / "blobs", task_seconds=task_seconds, module=ODD, **options)


def in_thread(executor: LocalExecutor, task: Task, heard: Heard) -> Callable[[], Outcome]:
    """Start a task; return a function that waits for its outcome."""
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(executor.run(task, heard)))
    thread.start()

    def outcome() -> Outcome:
        thread.join(30)
        return outcomes[0]

    return outcome


def works(executor: LocalExecutor) -> bool:
    return executor.run(odd("fine"), Heard()) == Done()


def gone(pid: int, within: float) -> bool:
    """True if a process ends within so many seconds; a zombie has ended."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.02)
                continue
        return True
    return False
