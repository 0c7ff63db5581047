"""Interface between the dispatcher and executors of units of work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Task:
    """Unit of work, serialisable as JSON.

    Attributes:
        fence: unique number of the task.
        kind: kind of work.
        request: body of the request.
        rows: indices of the rows to compute.
        cores: cores that it may use; 0: all.
        bytes: expected peak memory.
        seconds: time limit, beside the executor's own.
    """

    fence: int
    kind: str
    request: dict[str, Any]
    rows: tuple[int, ...]
    cores: int
    bytes: int = 0
    seconds: float | None = None


@dataclass(frozen=True)
class Capacity:
    """Resources for tasks.

    Attributes:
        slots: number of tasks at a time.
        cores: cores of all machines together.
        bytes: memory of all machines together, beyond what their processes take before they compute.
        task_cores: cores of the smallest machine: a task that uses all cores gets these, and can run on every machine.
        task_bytes: memory of the largest machine: no task can use more.
        may_grow: True if machines may be added, for which larger tasks wait.
    """

    slots: int
    cores: int
    bytes: int
    task_cores: int
    task_bytes: int
    may_grow: bool = False

    @classmethod
    def of_one_machine(cls, slots: int, cores: int, memory: int) -> Capacity:
        """Return the capacity of a single machine.

        Args:
            slots: number of tasks at a time.
            cores: its cores.
            memory: its memory for tasks, bytes.

        Returns:
            the capacity.
        """
        return cls(slots, cores, memory, cores, memory)


class Listener(Protocol):
    """Callbacks of a running task, called in the thread that called :meth:`Executor.run`.

    A slow callback delays the task but loses nothing; an exception ends the task and propagates from ``run``.
    """

    def rows(self, rows: list[tuple[int, dict[str, Any]]]) -> None:
        """Handle finished rows: indices and results."""
        ...

    def progress(self, stage: str, done: int, total: int) -> None:
        """Handle progress: ``done`` of ``total`` steps of a stage."""
        ...


@dataclass(frozen=True)
class Done:
    """All rows were reported."""


@dataclass(frozen=True)
class Lost:
    """The worker died during the task.

    Attributes:
        reason: how it died.
        status: status for the row that turns out to be the cause.
    """

    reason: str
    status: str = "worker-crashed"


@dataclass(frozen=True)
class Failed:
    """The task cannot be computed; the problem is an RFC 9457 document. An internal error has a traceback."""

    problem: dict[str, Any]
    traceback: str = ""


@dataclass(frozen=True)
class PutBack:
    """The task could not be computed now for reasons unrelated to it.

    Attributes:
        reason: the obstacle.
        lasting: True if other tasks would meet the same obstacle now.
    """

    reason: str
    lasting: bool = True


@dataclass(frozen=True)
class Cancelled:
    """The task was cancelled, or the executor closed."""


Outcome = Done | Lost | Failed | PutBack | Cancelled


class Executor(Protocol):
    """Executor of tasks."""

    def capacity(self) -> Capacity:
        """Return the resources for tasks at present; ``slots`` threads may be in :meth:`run` at once."""
        ...

    def problem(self) -> str | None:
        """Return what keeps it from computing, in one sentence; None if nothing does."""
        ...

    def run(self, task: Task, listener: Listener) -> Outcome:
        """Run a task to completion.

        Args:
            task: task to run.
            listener: callbacks for rows and progress.

        Returns:
            the outcome.
        """
        ...

    def cancel(self, fence: int) -> None:
        """Kill a running task; no effect if the task is not running.

        Args:
            fence: number of the task.
        """
        ...

    def close(self) -> None:
        """End all tasks and processes; later calls of ``run`` return ``Cancelled`` at once."""
        ...
