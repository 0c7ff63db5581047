import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.executors.base import Executor
from api.jobs.dispatcher import Dispatcher
from api.jobs.table import JobTable
from tests.api.jobs.dispatchers import Service, Start
from tests.api.jobs.tables import LEASE, Clock, url


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(tmp_path: Path, clock: Clock) -> Iterator[JobTable]:
    table = JobTable(url(tmp_path), lease_seconds=LEASE, clock=clock, steady=clock)
    yield table
    table.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a dispatcher; tables are those of a class, with some methods replaced."""
    services: list[Service] = []

    def start(
        executor: Executor, table: JobTable | None = None, lease_seconds: float = 15.0, **options: Any
    ) -> Service:
        table = table or JobTable(url(tmp_path), lease_seconds=lease_seconds)
        values: dict[str, Any] = {"min_free_disk": 0, **options}
        dispatcher = Dispatcher(table, executor, owner="here", folder=tmp_path, lease_seconds=lease_seconds, **values)
        services.append(Service(table, dispatcher))
        dispatcher.start()
        assert dispatcher.ready()
        return services[-1]

    yield start
    for service in services:
        service.dispatcher.stop()
        service.table.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("slot-", "leases"))]
