"""Time by which old jobs are deleted: a wrong clock must not delete new jobs."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from sqlalchemy import func, insert, select, update

from api.jobs.database.base import Database
from api.jobs.schema import JOBS, STORE

_LONGEST_PAUSE = 86_400.0  # seconds; the longest gap between two services that counts
_log = structlog.get_logger(__name__)


class StoreTime:
    """Store time: seconds of use of a store, offset to start near the Unix time.

    While a service runs, its monotonic clock counts. The gap between two services is known from the wall clock alone:
    it counts if it is between 0 and a day; otherwise the clock may be wrong, and the gap does not count.

    Args:
        database: database that stores it.
        wall: wall clock, seconds since 1970; may be wrong.
        steady: monotonic clock, seconds.
    """

    def __init__(self, database: Database, wall: Callable[[], float], steady: Callable[[], float]) -> None:
        self._database, self._wall, self._steady = database, wall, steady
        now = wall()
        with database.write() as connection:
            row = connection.execute(select(STORE.c.time, STORE.c.wall)).one_or_none()
            if row is None:
                last = connection.execute(select(func.max(JOBS.c.updated))).scalar_one()
                self._base = now if last is None else last
                connection.execute(insert(STORE).values(id=1, time=self._base, wall=now))
            else:
                pause = now - row.wall
                counts = 0 <= pause <= _LONGEST_PAUSE
                if not counts:
                    _log.warning("the clock has jumped, or the service was off for long; jobs are kept", seconds=pause)
                self._base = row.time + (pause if counts else 0.0)
        self._began = steady()
        self.save()

    def __call__(self) -> float:
        """Return the current store time."""
        return self._base + self._steady() - self._began

    def save(self) -> None:
        """Save the time for the next service."""
        with self._database.write() as connection:
            connection.execute(update(STORE).values(time=self(), wall=self._wall()))
