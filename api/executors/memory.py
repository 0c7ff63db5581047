"""Resident memory of worker processes, and which of them has to end where together they take more than they may."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import psutil

WORKER_BYTES = 350 * 10**6  # of a worker with all that it imports, before it computes
TOLERANCE = 1.2  # times the plan, before a task is held to be the cause


@dataclass
class Usage:
    """What one worker takes.

    Attributes:
        pid: of its process.
        planned: peak bytes of its task; None while it has none.
        at_start: resident bytes when the task began.
        resident: resident bytes as of the last look.
    """

    pid: int
    planned: int | None = None
    at_start: int = 0
    resident: int = 0

    def begin(self, planned: int) -> None:
        """Begin a task.

        Args:
            planned: its peak, bytes.
        """
        self.look()
        self.planned, self.at_start = planned, self.resident

    def look(self) -> None:
        """Read the resident memory of the process; 0 if it has ended."""
        try:
            self.resident = psutil.Process(self.pid).memory_info().rss
        except psutil.Error:
            self.resident = 0

    @property
    def taken(self) -> int:
        """Bytes beside those at the task's beginning."""
        return self.resident - self.at_start

    @property
    def excess(self) -> float:
        """Bytes beyond what the task was planned to take, with some tolerance; of an idle worker beyond a new one's."""
        if self.planned is None:
            return self.resident - TOLERANCE * WORKER_BYTES
        return self.taken - TOLERANCE * self.planned


def to_be_ended(usages: Iterable[Usage], limit: int) -> Usage | None:
    """The worker that has to end so that the others have room.

    Args:
        usages: of all workers.
        limit: bytes that they may take together.

    Returns:
        None while they take less. Else an idle one that keeps what it does not need; or the one that takes most beyond
        its plan, even if that is nothing.
    """
    usages = list(usages)
    for usage in usages:
        usage.look()
    if sum(usage.resident for usage in usages) <= limit:
        return None
    idle = [usage for usage in usages if usage.planned is None and usage.excess > 0]
    busy = [usage for usage in usages if usage.planned is not None]
    return max(idle or busy, key=lambda usage: usage.excess, default=None)
