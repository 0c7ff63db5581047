"""PostgreSQL as the database of the job table: several services use it at the same time, also on several machines."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Collection
from typing import Any

import structlog
from sqlalchemy import URL, Connection, create_engine, event, func, select, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from typing_extensions import override

from api.jobs.database.base import Database, said
from api.jobs.schema import TICKETS
from api.logs import Seldom
from api.problems import DamagedStore, DatabaseUnavailable, StorageFull
from api.seals import sealed, unsealed
from nngp_prior.errors import NngpPriorError

# A connection that is cut without a word is noticed after 30 s, by the client and by the server; so is a service that
# stands still in the middle of a transaction, which would keep all others waiting. Parameters of the URL come first.
_CLIENT = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 10,
    "keepalives_count": 2,
    "tcp_user_timeout": 30_000,
    "application_name": "nngp-prior",
}
_SERVER = {
    "tcp_keepalives_idle": "10s",
    "tcp_keepalives_interval": "10s",
    "tcp_keepalives_count": "2",
    "tcp_user_timeout": "30s",
    "idle_in_transaction_session_timeout": "30s",
    "lock_timeout": "30s",
}
_FULL, _DAMAGED = ("53100",), ("XX001", "XX002")  # SQLSTATE
_READ_ONLY = "25006"  # of a server that has become a replica
_MIGRATIONS = 7_134_903_120_456_781  # key of the advisory lock of migrations
_CHANNEL = "nngp_jobs"
_AT_ONCE = 100  # ids per notification, whose payload is limited to 8,000 bytes
_PATIENCE = 0.5  # seconds; longest delay of the end of the thread
_CALM = 0.1  # seconds during which further changes are collected
_PAUSE = 1.0  # seconds before a lost connection is renewed
_TROUBLE = 60.0  # seconds between two log lines on a lost connection
_log = structlog.get_logger(__name__)


class PostgresDatabase(Database):
    """Database of a server; arguments and attributes are those of :class:`api.jobs.database.base.Database`.

    Args:
        url: SQLAlchemy URL for psycopg.
    """

    shared = True

    def __init__(self, url: URL) -> None:
        engine = create_engine(
            url,
            connect_args={name: value for name, value in _CLIENT.items() if name not in url.query},
            pool_pre_ping=True,  # connections to a server that was restarted are replaced
            json_serializer=sealed,
            json_deserializer=lambda content: unsealed(content.decode()),
        )
        event.listen(engine, "connect", _prepare)
        # A reader's snapshot is that of its first statement. Writers, one at a time, see what is committed: a snapshot
        # would be older than the changes of the writer that they have waited for.
        reader = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        writer = engine.execution_options(isolation_level="READ COMMITTED")
        self._origin = uuid.uuid4().hex
        self._ending = threading.Event()
        self._follower: threading.Thread | None = None
        super().__init__(engine, reader=reader, writer=writer)

    @override
    def seconds(self, connection: Connection) -> float:
        return connection.execute(text("SELECT extract(epoch FROM clock_timestamp())::float8")).scalar_one()

    @override
    def announce(self, connection: Connection, jobs: Collection[str]) -> None:
        ids = sorted(jobs)
        for i in range(0, len(ids), _AT_ONCE):
            payload = " ".join([self._origin, *ids[i : i + _AT_ONCE]])
            connection.execute(select(func.pg_notify(_CHANNEL, payload)))

    @override
    def follow(self, tell: Callable[[str | None], None]) -> None:
        self._follower = threading.Thread(target=self._follow, args=(tell,), name="changes", daemon=True)
        self._follower.start()

    @override
    def reachable(self) -> bool:
        try:
            with self.read() as connection:
                connection.execute(text("SELECT"))
        except DatabaseUnavailable:
            return False
        return True

    @override
    def close(self) -> None:
        self._ending.set()
        if self._follower is not None:
            self._follower.join()
        super().close()

    @override
    def _check(self) -> None:
        """Nothing to do: the server checks its files."""

    @override
    def _exclude_writers(self, connection: Connection) -> None:
        connection.execute(select(TICKETS.c.last).with_for_update())

    @override
    def _exclude_migrations(self, connection: Connection) -> None:
        connection.execute(select(func.pg_advisory_xact_lock(_MIGRATIONS)))

    @override
    def _named(self, error: DBAPIError | PoolTimeout) -> NngpPriorError | None:
        state = getattr(getattr(error, "orig", None), "sqlstate", None)
        if state in _FULL:
            return StorageFull(f"The disk of the database is full ({said(error)}). Free some space and try again.")
        if state in _DAMAGED:
            return DamagedStore(f"The table of jobs is damaged: {said(error)}.")
        if isinstance(error, OperationalError | InterfaceError | PoolTimeout) or state == _READ_ONLY:
            return DatabaseUnavailable(f"The database cannot be used now ({said(error)}). Try again later.")
        return None

    def _follow(self, tell: Callable[[str | None], None]) -> None:
        trouble = Seldom(_TROUBLE)
        while not self._ending.is_set():
            try:
                with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                    heard = connection.connection.driver_connection
                    connection.detach()  # from the pool, whose next user would get the notifications
                    connection.execute(text(f"LISTEN {_CHANNEL}"))
                    tell(None)
                    self._hear(heard, tell)
            except Exception as error:
                if trouble.due():
                    _log.warning("changes by other services are noticed late", error=said(error))
                self._ending.wait(_PAUSE)

    def _hear(self, connection: Any, tell: Callable[[str | None], None]) -> None:
        while not self._ending.is_set():
            heard: dict[str, None] = {}
            for notification in connection.notifies(timeout=_PATIENCE, stop_after=1):
                origin, *jobs = notification.payload.split(" ")
                if origin != self._origin:
                    heard |= dict.fromkeys(jobs)
            for job in heard:
                tell(job)
            if heard:
                self._ending.wait(_CALM)


def _prepare(connection: Any, _: Any) -> None:
    settings = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in _SERVER.items())
    before, connection.autocommit = connection.autocommit, True
    connection.execute(f"SELECT {settings}")
    connection.autocommit = before
