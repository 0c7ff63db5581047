"""Periodic clean-up."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

_HOUR = 3600.0
_log = structlog.get_logger(__name__)


class Housekeeping:
    """Thread that runs chores at its start and then once per interval.

    Args:
        chores: callables that do a part of the work each time, and return True if there is more.
        seconds: interval.
        due: True if this process does the chores now; default: always.
    """

    def __init__(
        self, *chores: Callable[[], object], seconds: float = _HOUR, due: Callable[[], bool] = lambda: True
    ) -> None:
        self._chores, self._seconds, self._due = chores, seconds, due
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current part of a chore."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            for chore in self._chores if self._due() else ():
                try:
                    while chore() and not self._stopping.is_set():
                        pass
                except Exception:  # retried after the next interval
                    _log.exception("housekeeping failed")
            self._stopping.wait(self._seconds)
