"""Resident memory of worker processes, and the choice of the one to end if they exceed their limit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import psutil

WORKER_BYTES = 350 * 10**6  # of a worker after its imports, before it computes
TOLERANCE = 1.2  # factor on the plan, beyond which a task counts as the cause


@dataclass
class Usage:
    """Memory use of one worker.

    Attributes:
        pid: process id.
        planned: planned peak bytes of its task; None if idle.
        at_start: resident bytes at the start of the task.
        resident: resident bytes at the last reading.
    """

    pid: int
    planned: int | None = None
    at_start: int = 0
    resident: int = 0

    def begin(self, planned: int) -> None:
        """Start a task.

        Args:
            planned: planned peak, bytes.
        """
        self.look()
        self.planned, self.at_start = planned, self.resident

    def look(self) -> None:
        """Update the resident memory of the process; 0 if it has ended."""
        try:
            self.resident = psutil.Process(self.pid).memory_info().rss
        except psutil.Error:
            self.resident = 0

    @property
    def taken(self) -> int:
        """Resident bytes beyond those at the start of the task."""
        return self.resident - self.at_start

    @property
    def excess(self) -> float:
        """Bytes beyond the task's plan, with some tolerance; for an idle worker, beyond a new worker's."""
        if self.planned is None:
            return self.resident - TOLERANCE * WORKER_BYTES
        return self.taken - TOLERANCE * self.planned


def to_be_ended(usages: Iterable[Usage], limit: int) -> Usage | None:
    """Choose the worker to end so that the others have memory.

    Args:
        usages: usage of all workers.
        limit: bytes of all workers together.

    Returns:
        None while they take less than the limit. Else an idle worker that retains memory it does not need, or the one
        that exceeds its plan most, even if by nothing.
    """
    usages = list(usages)
    for usage in usages:
        usage.look()
    if sum(usage.resident for usage in usages) <= limit:
        return None
    idle = [usage for usage in usages if usage.planned is None and usage.excess > 0]
    busy = [usage for usage in usages if usage.planned is not None]
    return max(idle or busy, key=lambda usage: usage.excess, default=None)
