"""Database of the job table: transactions with one writer at a time, migrations, named errors."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api.jobs.schema import METADATA
from api.problems import DamagedStore, DatabaseUnavailable, StorageFull
from nngp_prior.errors import InvalidInput, NngpPriorError

VARIABLE = "NNGP_DATABASE_URL"
EXAMPLES = "Give one like sqlite:////folder/jobs.sqlite or postgresql://user@host/name, or leave it out."
_RESTORE = "Restore the file from a backup, or move it away: then the service starts without jobs."


class Database(ABC):
    """Database with up-to-date tables, and its transactions.

    Args:
        engine: engine of the database.
        reader: the same engine, for read transactions.
        writer: the same engine, for write transactions.

    Attributes:
        shared: True if several services may use it at the same time.
        damaged: True once the file has been found damaged.

    Raises:
        InvalidInput: if the database does not exist, is damaged, or was written by a later version.
    """

    shared: bool

    def __init__(self, engine: Engine, *, reader: Engine, writer: Engine) -> None:
        self.engine, self._reader, self._writer = engine, reader, writer
        # Databases let writers wait by polling, or each with a connection; threads of one process can queue instead.
        self._lock = threading.Lock()
        self.damaged = False
        try:
            self._open()
        except BaseException:
            engine.dispose()
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a read transaction with one consistent snapshot of the database.

        Yields:
            the connection.

        Raises:
            StorageFull: if the disk is full.
            DamagedStore: if the file of the database is damaged.
            DatabaseUnavailable: if its server cannot be reached.
        """
        with self._named_errors(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open an exclusive write transaction, rolled back if an exception leaves it.

        Yields:
            the connection.

        Raises:
            StorageFull: if the disk is full; nothing is written.
            DamagedStore: if the file of the database is damaged.
            DatabaseUnavailable: if its server cannot be reached. Nothing is written, unless the connection broke while
                the transaction was committed.
        """
        with self._lock, self._named_errors(), self._writer.begin() as connection:
            self._exclude_writers(connection)
            yield connection

    @abstractmethod
    def seconds(self, connection: Connection) -> float:
        """Return the time by which leases end, equal for all services that use the database.

        Args:
            connection: connection in a transaction.

        Returns:
            seconds of a clock.
        """

    def announce(self, connection: Connection, jobs: Collection[str]) -> None:
        """Notify other processes of changes, once the transaction is committed.

        Args:
            connection: connection in a write transaction.
            jobs: ids of the changed jobs.
        """
        del connection, jobs  # no other process changes a file

    def follow(self, tell: Callable[[str | None], None]) -> None:
        """Follow the changes announced by other processes, until the database is closed.

        Args:
            tell: called with the id of each changed job, or with None if changes may have been missed.
        """
        del tell

    def reachable(self) -> bool:
        """True if the database can be used now, as far as a query tells; one in a file always is."""
        return True

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @abstractmethod
    def _check(self) -> None:
        """Check the whole database at the start."""

    @abstractmethod
    def _exclude_writers(self, connection: Connection) -> None:
        """Wait for the end of other write transactions."""

    @abstractmethod
    def _exclude_migrations(self, connection: Connection) -> None:
        """Wait for the end of migrations by other processes."""

    @abstractmethod
    def _named(self, error: DBAPIError | PoolTimeout) -> NngpPriorError | None:
        """Return the error of this package that names a failure of the database; None if none does."""

    def _open(self) -> None:
        try:
            with self._named_errors():
                self._check()
                self._migrate()
                _require_columns(self.engine)
        except DamagedStore as error:
            raise InvalidInput(VARIABLE, f"{self.engine.url.database} is damaged ({error})", _RESTORE) from error
        except (DatabaseError, DatabaseUnavailable, StorageFull) as error:
            raise InvalidInput(VARIABLE, f"cannot be used ({said(error)})", EXAMPLES) from error

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Translate errors of a full disk, of a lost server, or of a damaged file, which sets ``damaged``."""
        try:
            yield
        except (DBAPIError, PoolTimeout) as error:
            named = self._named(error)
            if named is None:
                raise
            self.damaged = self.damaged or isinstance(named, DamagedStore)
            raise named from error

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parents[1] / "migrations").replace("%", "%%"))
        with self._writer.begin() as connection:
            self._exclude_migrations(connection)
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                remedy = "Use the version that wrote it, or another database."
                raise InvalidInput(VARIABLE, f"the table of jobs is of a later version ({error})", remedy) from error


def said(error: Exception) -> str:
    """Return the message of an error of a database, in one line."""
    cause = error.__cause__ if isinstance(error, NngpPriorError) else error
    return " ".join(str(getattr(cause, "orig", None) or error).split())


def _require_columns(engine: Engine) -> None:
    """Select every column of every table: SQLite stores their names as text, which can be damaged too."""
    with engine.begin() as connection:
        for table in METADATA.sorted_tables:
            try:
                connection.execute(table.select().limit(1)).all()
            except (DatabaseError, TypeError, ValueError) as error:
                raise DamagedStore(said(error)) from error
