"""What has to be cleared away from time to time."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

_HOUR = 3600.0
_log = structlog.get_logger(__name__)


class Housekeeping:
    """A thread that does chores, at once and every hour.

    Args:
        chores: each does a part of its work, and says whether there is more.
        seconds: from one time to the next.
    """

    def __init__(self, *chores: Callable[[], object], seconds: float = _HOUR) -> None:
        self._chores, self._seconds = chores, seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the part of a chore that is being done."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            for chore in self._chores:
                try:
                    while chore() and not self._stopping.is_set():
                        pass
                except Exception:  # the next time may be better
                    _log.exception("housekeeping failed")
            self._stopping.wait(self._seconds)
