import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.executors.base import Executor
from api.jobs.dispatcher import Dispatcher
from api.jobs.table import JobTable
from tests.api.jobs.dispatchers import Service, Start
from tests.api.jobs.tables import LEASE, Clock, sqlite_url
from tests.postgres import Postgres

_BRIEF = ("test_postgres.py", "test_table.py", "test_turns.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On PostgreSQL, some files and the state machine's short runs are fast tests; all others are slow ones."""
    for item in items:
        parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        if parameters.get("url") == "postgresql" and item.path.name not in _BRIEF:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database of each kind."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path)
        return
    server: Postgres = request.getfixturevalue("postgres")
    yield server.url(server.create())


@pytest.fixture
def table(url: str, clock: Clock) -> Iterator[JobTable]:
    table = JobTable(url, lease_seconds=LEASE, clock=clock, steady=clock)
    yield table
    table.close()


@pytest.fixture
def start(url: str, tmp_path: Path) -> Iterator[Start]:
    """Starts a dispatcher; tables are those of a class, with some methods replaced."""
    services: list[Service] = []

    def start(
        executor: Executor, table: JobTable | None = None, lease_seconds: float = 15.0, **options: Any
    ) -> Service:
        table = table or JobTable(url, lease_seconds=lease_seconds)
        values: dict[str, Any] = {"min_free_disk": 0, **options}
        dispatcher = Dispatcher(table, executor, owner="here", folder=tmp_path, lease_seconds=lease_seconds, **values)
        services.append(Service(table, dispatcher))
        dispatcher.start()
        assert dispatcher.ready()
        return services[-1]

    yield start
    for service in services:  # some have a table in common
        service.dispatcher.stop()
    for service in services:
        service.table.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("slot-", "leases"))]
