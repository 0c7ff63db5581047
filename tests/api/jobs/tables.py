"""Plans, results and a clock for tests of the job table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config

from api.jobs.database import open_database
from api.jobs.models import Lease
from api.jobs.schema import METADATA
from api.jobs.table import JobTable
from api.jobs.transaction import LOSSES
from api.work.base import Chunk, Plan

LEASE = 15.0
ROOM = 2**40
SQLITE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
POSTGRES = pytest.mark.parametrize("url", ["postgresql"], indirect=True)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder}/jobs.sqlite"


def plan(*sizes: int, cores: int = 1, nbytes: int = 100) -> Plan:
    """Chunks of so many rows, one after another."""
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    chunks = tuple(
        Chunk(tuple(range(start, start + size)), cores, nbytes, 1.0) for start, size in zip(starts, sizes, strict=True)
    )
    return Plan(sum(sizes), chunks, "labellings", {"n": 3})


def submit(table: JobTable, name: str, *sizes: int, **options: int) -> bool:
    return table.submit(name, "estimates", {"name": name}, plan(*sizes, **options))[1]


def claim(table: JobTable, owner: str = "worker") -> Lease:
    lease = table.claim(owner, 1, ROOM)
    assert lease is not None
    return lease


def results(rows: Iterable[int], by: str = "worker") -> list[tuple[int, dict[str, object]]]:
    return [(row, {"labelling": row, "by": by}) for row in rows]


def done(table: JobTable, name: str) -> list[int]:
    return [row for row, _ in table.results(name)]


def downgrade(url: str, revision: str) -> None:
    """Have a database as an older version wrote it."""
    database = open_database(url)
    with database.engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", "api:jobs/migrations")
        config.attributes["connection"] = connection
        command.downgrade(config, revision)
    database.close()


def everything(table: JobTable) -> list[Any]:
    with table.database.read() as connection:
        return [connection.execute(each.select()).all() for each in METADATA.sorted_tables]


def given_up(table: JobTable) -> JobTable:
    """The lone row of a job, whose worker died three times."""
    for _ in range(LOSSES):
        assert done(table, "a") == []
        table.lose(claim(table), "killed by signal 9")
    assert [data["status"] for _, data in table.results("a")] == ["worker-crashed"]
    return table
