"""The database under the job table: one writer at a time, tables up to date, and what a full disk looks like."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, select
from sqlalchemy.exc import ArgumentError, OperationalError

from api.jobs.schema import TICKETS
from api.problems import StorageFull
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.pieces import decode, encode

_LIKE = "Give one like sqlite:////folder/jobs.sqlite, or leave it out."
_FULL = ("full", "disk i/o", "no space left")

# WAL: readers never wait for the writer. What a COMMIT survives:
#
#              process killed (-9)   power lost
#   FULL       yes                   yes; an fsync a commit, 1 to 20 ms: five commits a job make minutes of a thousand
#   NORMAL     yes                   the database is whole, but the last commits before the cut may be missing
#   OFF        yes                   the database may be corrupt
#
# A commit under NORMAL is in the operating system's hands, and the death of a process takes nothing from there. After a
# power cut a job or a result may be missing that was acknowledged seconds before: the workers died too, so nobody holds
# a fence that would be given again; a result is computed again, to the same number, and a job is found by the same id
# when it is submitted again. That is no harm worth an fsync for each of a thousand small jobs.
_PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON")


class Database:
    """Transactions on a database whose tables are up to date.

    Args:
        url: of SQLAlchemy.

    Raises:
        InvalidInput: there is no such database, or a later version wrote it.
    """

    def __init__(self, url: str) -> None:
        sqlite = url.startswith("sqlite")
        try:
            options = {"timeout": 30} if sqlite else {}
            self.engine = create_engine(url, connect_args=options, json_serializer=encode, json_deserializer=decode)
        except (ArgumentError, ImportError) as error:  # the address, or the driver that it names
            raise InvalidInput("NNGP_DATABASE_URL", f"cannot be used ({error})", _LIKE) from None
        if sqlite:
            event.listen(self.engine, "connect", _prepare)
            event.listen(self.engine, "begin", _begin)
        self._writer = self.engine.execution_options(writes=True)
        # SQLite's own waiting is sleeping and trying again, up to 100 ms; threads of one process can queue instead.
        self._lock = threading.Lock()
        try:
            with full_disk():
                _migrate(self._writer)
        except OperationalError as error:
            raise InvalidInput("NNGP_DATABASE_URL", f"cannot be used ({error.orig})", _LIKE) from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database, however long it reads.

        Yields:
            its connection.

        Raises:
            StorageFull: there is no room on the disk.
        """
        with full_disk(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that no other writer runs beside; undone if an exception leaves it.

        Yields:
            its connection.

        Raises:
            StorageFull: there is no room on the disk; nothing is written.
        """
        with self._lock, full_disk(), self._writer.begin() as connection:
            if connection.dialect.name != "sqlite":
                connection.execute(select(TICKETS.c.last).with_for_update())
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


@contextmanager
def full_disk() -> Iterator[None]:
    """Gives a full disk its name.

    Yields:
        nothing.

    Raises:
        StorageFull: there is no room on the disk.
        OperationalError: something else is wrong with the database.
    """
    try:
        yield
    except OperationalError as error:
        if not any(word in str(error.orig).lower() for word in _FULL):
            raise
        raise StorageFull(
            f"The disk with the table of jobs is full ({error.orig}). Free some space and try again."
        ) from error


def _prepare(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # Python's sqlite3 begins transactions by guesses; _begin does it
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    # A transaction that reads first and then writes can find that another has written meanwhile, and SQLite then gives
    # up at once: who will write says so at the beginning.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrate(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            remedy = "Use the version that wrote it, or another database."
            raise InvalidInput(
                "NNGP_DATABASE_URL", f"the table of jobs is of a later version ({error})", remedy
            ) from error
