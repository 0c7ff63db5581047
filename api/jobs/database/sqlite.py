"""SQLite as the database of the job table: a file that one service uses."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from typing_extensions import override

from api.jobs.database.base import Database
from api.problems import DamagedStore, StorageFull
from api.seals import sealed, unsealed
from nngp_prior.errors import NngpPriorError

_FULL = ("full", "disk i/o", "no space left")
_DAMAGED = ("malformed", "not a database")

# WAL: readers never wait for the writer. What survives after a commit:
#
#              process killed (-9)   power lost
#   FULL       yes                   yes; one fsync per commit, 1 to 20 ms: minutes for 1000 jobs of five commits each
#   NORMAL     yes                   the database is intact, but the last commits may be missing
#   OFF        yes                   the database may be corrupt
#
# A commit under NORMAL is held by the operating system, and the death of a process does not affect it. After a power
# failure, a job or a result acknowledged seconds before may be missing. That is harmless, and not worth an fsync per
# commit: the workers died too, so no worker holds a fence that could be issued again; a result is recomputed to the
# same number, and a job gets the same id when it is submitted again.
_PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON")


class SqliteDatabase(Database):
    """Database in a file; arguments and attributes are those of :class:`api.jobs.database.base.Database`.

    Args:
        url: SQLAlchemy URL.
    """

    shared = False

    def __init__(self, url: URL) -> None:
        engine = create_engine(url, connect_args={"timeout": 30}, json_serializer=sealed, json_deserializer=unsealed)
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
        super().__init__(engine, reader=engine, writer=engine.execution_options(writes=True))

    @override
    def seconds(self, connection: Connection) -> float:
        return time.monotonic()

    @override
    def _check(self) -> None:
        """Check tables, and consistency of indexes. Takes about 1 s for some hundred megabytes."""
        with self.engine.begin() as connection:
            found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one()
        if found != "ok":
            raise DamagedStore(" ".join(found.split()))

    @override
    def _exclude_writers(self, connection: Connection) -> None:
        """Nothing to do: write transactions begin with the write lock."""

    _exclude_migrations = _exclude_writers

    @override
    def _named(self, error: DBAPIError | PoolTimeout) -> NngpPriorError | None:
        if not isinstance(error, DatabaseError):
            return None
        said = str(error.orig).lower()
        if any(word in said for word in _DAMAGED):
            return DamagedStore(f"The table of jobs is damaged: {error.orig}.")
        if isinstance(error, OperationalError) and any(word in said for word in _FULL):
            return StorageFull(
                f"The disk with the table of jobs is full ({error.orig}). Free some space and try again."
            )
        return None


def _prepare(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # Python's sqlite3 begins transactions implicitly; _begin does it explicitly
    # Invalid UTF-8 from a damaged byte must not make the other columns and rows unreadable.
    connection.text_factory = lambda content: content.decode(errors="surrogateescape")
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    # A transaction that reads before it writes may find that another has written meanwhile; SQLite then fails at once.
    # Writers therefore take the write lock at the beginning.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
