"""Tables of other versions, earlier and later, and migrations that break off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import text

from api.jobs.schema import METADATA
from api.jobs.table import JobTable
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.job_names import JobEdit
from tests.api.jobs.tables import (
    SQLITE,
    claim,
    downgrade,
    given_up,
    results,
    sqlite_url,
    submit,
)


def test_migrations_make_the_tables_that_the_metadata_describes(table: JobTable) -> None:
    with table.database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, METADATA) == []


@SQLITE
def test_counted_tables(table: JobTable) -> None:
    with table.database.read() as connection:
        kept = connection.exec_driver_sql("SELECT name FROM sqlite_sequence").scalars().all()
    assert set(kept) <= {"units", "events"}
    submit(table, "a", 1)
    with table.database.read() as connection:
        assert set(connection.scalars(text("SELECT name FROM sqlite_sequence"))) == {"units", "events"}


def test_numbers_are_not_issued_again(table: JobTable) -> None:
    submit(table, "a", 1)
    unit, event = claim(table).unit, table.events("a")[-1].id
    table.dismiss("a")
    submit(table, "a", 1)
    assert claim(table).unit > unit
    assert table.events("a")[0].id > event + 1  # that of the dismissal


def test_a_table_of_a_later_version_is_left_alone(table: JobTable, url: str) -> None:
    with table.database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(InvalidInput, match="NNGP_DATABASE_URL: the table of jobs is of a later version"):
        JobTable(url)


def test_rows_that_an_older_version_gave_up_are_tried_again(table: JobTable, url: str) -> None:
    submit(table, "a", 1)
    given_up(table)
    submit(table, "b", 1)
    table.record(claim(table), results([0]))
    table.close()
    downgrade(url, "0002")
    again = JobTable(url)
    jobs = {job.id: job.given_up for job in again.list()[0]}
    again.close()
    assert jobs == {"a": 1, "b": 0}


def test_jobs_of_a_version_without_names_are_kept_and_can_be_named(table: JobTable, url: str) -> None:
    submit(table, "a", 1)
    table.record(claim(table), results([0]))
    before = table.get("a"), list(table.results("a")), table.events("a")
    table.edit("a", JobEdit(name="lost", add_tags=("lost",)))
    table.close()
    downgrade(url, "0007")
    again = JobTable(url)
    job = again.get("a")
    assert before[0] is not None
    assert job is not None
    assert (replace(job, version=0, updated=None), *before[1:]) == (
        replace(before[0], version=0, updated=None),
        list(again.results("a")),
        again.events("a"),
    )
    again.edit("a", JobEdit(name="found"))
    assert [each.id for each in again.list(name="found")[0]] == ["a"]
    again.close()


def test_a_migration_that_breaks_off_leaves_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise OSError("pulled the plug")

    with monkeypatch.context() as patch:
        patch.setattr(Operations, "bulk_insert", broken)
        with pytest.raises(OSError, match="plug"):
            JobTable(url)
    table = JobTable(url)
    assert submit(table, "a", 1)
    table.close()


def test_a_folder_with_a_percent_sign(tmp_path: Path) -> None:
    folder = tmp_path / "100% (of it)"
    folder.mkdir()
    table = JobTable(sqlite_url(folder))
    assert table.counts()["accepted"] == 0
    table.close()
