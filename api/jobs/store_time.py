"""The time by which old jobs are deleted: a wrong clock must not delete what is new."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from sqlalchemy import func, insert, select, update

from api.jobs.database import Database
from api.jobs.schema import JOBS, STORE

_LONGEST_PAUSE = 86_400.0  # seconds between two services that may count
_log = structlog.get_logger(__name__)


class StoreTime:
    """Seconds for which a store has been in use, as if since 1970.

    While a service runs, its monotonic clock counts. The time between two services is known from the wall clock alone:
    it counts up to a day; if it is longer, or negative, the clock may be wrong, and it does not count.

    Args:
        database: that keeps it.
        wall: the time in seconds since 1970, perhaps a wrong one.
        steady: seconds of a clock that is never set.
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
        """The time now."""
        return self._base + self._steady() - self._began

    def save(self) -> None:
        """Write it down, for the next service."""
        with self._database.write() as connection:
            connection.execute(update(STORE).values(time=self(), wall=self._wall()))
