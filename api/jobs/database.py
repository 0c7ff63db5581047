"""Database of the job table: one writer at a time, migrations, errors of full or damaged disks."""

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


class Database:
    """Database with up-to-date tables, and its transactions.

    Args:
        url: SQLAlchemy URL.

    Attributes:
        damaged: True once the file has been found damaged.

    Raises:
        InvalidInput: if the database does not exist, is damaged, or was written by a later version.
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
        except (ArgumentError, ImportError) as error:  # invalid URL, or unavailable driver
            raise InvalidInput("NNGP_DATABASE_URL", f"cannot be used ({error})", _LIKE) from None
        if sqlite:
            event.listen(self.engine, "connect", _prepare)
            event.listen(self.engine, "begin", _begin)
        self._writer = self.engine.execution_options(writes=True)
        # SQLite itself waits by polling at intervals of up to 100 ms; threads of one process can queue instead.
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
        """Open a read transaction with one consistent snapshot of the database.

        Yields:
            the connection.

        Raises:
            StorageFull: if the disk is full.
            DamagedStore: if the file of the database is damaged.
        """
        with self._named_errors(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open an exclusive write transaction, rolled back if an exception leaves it.

        Yields:
            the connection.

        Raises:
            StorageFull: if the disk is full; nothing is written.
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
        """Translate errors of a full disk, or of a damaged file, which sets ``damaged``."""
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


def _check(engine: Engine) -> None:
    """Check the whole file: tables, and consistency of indexes. Takes about 1 s for some hundred megabytes."""
    with engine.begin() as connection:
        found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one()
    if found != "ok":
        raise DamagedStore(" ".join(found.split()))


def _require_columns(engine: Engine) -> None:
    """Select every column of every table: SQLite stores their names as text, which can be damaged too."""
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
