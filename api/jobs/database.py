"""The database under the job table: one writer at a time, tables up to date, and what a full or damaged disk does."""

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
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError

from api.jobs.schema import METADATA, TICKETS
from api.problems import DamagedStore, StorageFull
from api.seals import sealed, unsealed
from nngp_prior.errors import InvalidInput

_RESTORE = "Restore the file from a backup, or move it away: then the service starts without jobs."
_LIKE = "Give one like sqlite:////folder/jobs.sqlite, or leave it out."
_FULL = ("full", "disk i/o", "no space left")
_DAMAGED = ("malformed", "not a database")

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

    Attributes:
        damaged: True once the file turned out to be damaged.

    Raises:
        InvalidInput: if there is no such database, it is damaged, or a later version wrote it.
    """

    def __init__(self, url: str) -> None:
        sqlite = url.startswith("sqlite")
        try:
            self.engine = create_engine(
                url,
                connect_args={"timeout": 30} if sqlite else {},
                json_serializer=sealed,
                json_deserializer=unsealed,
            )
        except (ArgumentError, ImportError) as error:  # the address, or the driver that it names
            raise InvalidInput("NNGP_DATABASE_URL", f"cannot be used ({error})", _LIKE) from None
        if sqlite:
            event.listen(self.engine, "connect", _prepare)
            event.listen(self.engine, "begin", _begin)
        self._writer = self.engine.execution_options(writes=True)
        # SQLite's own waiting is sleeping and trying again, up to 100 ms; threads of one process can queue instead.
        self._lock = threading.Lock()
        self.damaged = False
        try:
            with self._named_errors():
                if sqlite:
                    _check(self.engine)
                _migrate(self._writer)
                _require_columns(self.engine)
        except DamagedStore as error:
            raise InvalidInput(
                "NNGP_DATABASE_URL", f"{self.engine.url.database} is damaged ({error})", _RESTORE
            ) from error
        except DatabaseError as error:
            raise InvalidInput("NNGP_DATABASE_URL", f"cannot be used ({error.orig})", _LIKE) from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database, however long it reads.

        Yields:
            its connection.

        Raises:
            StorageFull: there is no room on the disk.
            DamagedStore: if the file of the database is damaged.
        """
        with self._named_errors(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that no other writer runs beside; undone if an exception leaves it.

        Yields:
            its connection.

        Raises:
            StorageFull: there is no room on the disk; nothing is written.
            DamagedStore: if the file of the database is damaged.
        """
        with self._lock, self._named_errors(), self._writer.begin() as connection:
            if connection.dialect.name != "sqlite":
                connection.execute(select(TICKETS.c.last).with_for_update())
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Errors of a full disk, and of a damaged file, which is remembered."""
        try:
            yield
        except DatabaseError as error:
            said = str(error.orig).lower()
            if any(word in said for word in _DAMAGED):
                self.damaged = True
                raise DamagedStore(f"The table of jobs is damaged: {error.orig}.") from error
            if isinstance(error, OperationalError) and any(word in said for word in _FULL):
                raise StorageFull(
                    f"The disk with the table of jobs is full ({error.orig}). Free some space and try again."
                ) from error
            raise


def _prepare(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # Python's sqlite3 begins transactions by guesses; _begin does it
    # A damaged byte that is no UTF-8 must not keep the other columns and rows from being read.
    connection.text_factory = lambda content: content.decode(errors="surrogateescape")
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    # A transaction that reads first and then writes can find that another has written meanwhile, and SQLite then gives
    # up at once: who will write says so at the beginning.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _check(engine: Engine) -> None:
    """Read the whole file, which takes a second for some hundred megabytes: tables, and whether indexes agree."""
    with engine.begin() as connection:
        found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one()
    if found != "ok":
        raise DamagedStore(" ".join(found.split()))


def _require_columns(engine: Engine) -> None:
    """Name all columns of all tables: SQLite stores their names as text, which can be damaged too."""
    with engine.begin() as connection:
        for table in METADATA.sorted_tables:
            try:
                connection.execute(table.select().limit(1)).all()
            except (DatabaseError, TypeError, ValueError) as error:
                raise DamagedStore(" ".join(str(getattr(error, "orig", error)).split())) from error


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
