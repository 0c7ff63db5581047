from collections.abc import Iterator
from pathlib import Path

import pytest

from api.jobs.table import JobTable
from tests.api.jobs.tables import LEASE, Clock, url


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(tmp_path: Path, clock: Clock) -> Iterator[JobTable]:
    table = JobTable(url(tmp_path), lease_seconds=LEASE, clock=clock, steady=clock)
    yield table
    table.close()
