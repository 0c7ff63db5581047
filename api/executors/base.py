"""What a dispatcher asks of those who run its units of work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Task:
    """A unit of work as it is handed over: JSON can hold it.

    Attributes:
        fence: names it; no two have the same.
        kind: of work.
        request: what was posted.
        rows: places of those that are to be computed.
        cores: how many it may use; 0 is all that there are.
        bytes: peak memory that it is expected to take.
    """

    fence: int
    kind: str
    request: dict[str, Any]
    rows: tuple[int, ...]
    cores: int
    bytes: int = 0


class Listener(Protocol):
    """Who is told of a task while it runs, in the thread that called :meth:`Executor.run`.

    What takes long here holds the task up, and nothing is lost; an exception ends the task, and comes out of ``run``.
    """

    def rows(self, rows: list[tuple[int, dict[str, Any]]]) -> None:
        """Some rows are finished: their places and results."""
        ...

    def progress(self, stage: str, done: int, total: int) -> None:
        """So far ``done`` of ``total`` of a stage."""
        ...


@dataclass(frozen=True)
class Done:
    """All rows were told of."""


@dataclass(frozen=True)
class Lost:
    """The worker died of it, or with it.

    Attributes:
        reason: how.
        status: of the row that turns out to be the cause.
    """

    reason: str
    status: str = "worker-crashed"


@dataclass(frozen=True)
class Failed:
    """It cannot be carried out; the problem is an RFC 9457 document. A defect of the service has a traceback."""

    problem: dict[str, Any]
    traceback: str = ""


@dataclass(frozen=True)
class PutBack:
    """It could not be carried out now, through no fault of its own."""

    reason: str


@dataclass(frozen=True)
class Cancelled:
    """Somebody asked for its end, or for the executor's."""


Outcome = Done | Lost | Failed | PutBack | Cancelled


class Executor(Protocol):
    """Runs tasks, as many at once as it has slots.

    Attributes:
        slots: how many threads may be in :meth:`run` at once.
        resident: bytes that its processes take before they compute.
    """

    slots: int
    resident: int

    def run(self, task: Task, listener: Listener) -> Outcome:
        """Run a task to its end.

        Args:
            task: what to compute.
            listener: is told of rows and progress.

        Returns:
            how it ended.
        """
        ...

    def cancel(self, fence: int) -> None:
        """End a task that runs, by force; of others nothing is known, and nothing happens.

        Args:
            fence: names the task.
        """
        ...

    def hung(self) -> bool:
        """True if a task makes no progress that its process could make: it has used no processor time for minutes."""
        ...

    def close(self) -> None:
        """End all tasks and processes; what is run later is cancelled at once."""
        ...
