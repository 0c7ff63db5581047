"""Names and tags in the table of jobs: pages of filtered lists, their queries, deletion, damage."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from api.jobs.models import Job, State
from api.jobs.queries import listed
from api.jobs.table import JobTable
from nngp_prior.schemas.job_names import JobEdit
from tests.api.jobs.tables import SQLITE, Clock, everything, submit


def name(table: JobTable, job_id: str, name: str, *tags: str) -> Job:
    job = table.edit(job_id, JobEdit(name=name, add_tags=tags))
    assert job is not None
    return job


def pages(table: JobTable, **filters: Any) -> list[str]:
    jobs, cursor = table.list(limit=2, **filters)
    found = [job.id for job in jobs]
    while cursor is not None:
        jobs, cursor = table.list(limit=2, cursor=cursor, **filters)
        found += [job.id for job in jobs]
    return found


@pytest.fixture
def named(table: JobTable) -> JobTable:
    """Ten jobs; the number of each is part of its name, tags say if it is even and if it is a multiple of three."""
    for i in range(10):
        submit(table, f"{i}", 1)
        tags = [tag for tag, step in (("even", 2), ("third", 3)) if i % step == 0]
        name(table, f"{i}", f"Straße {i}", *tags)
    for i in (0, 6, 8):
        table.dismiss(f"{i}")
    submit(table, "without", 1)
    return table


def test_pages_of_filtered_jobs(named: JobTable) -> None:
    for filters, expected in (
        ({"tags": ["even"]}, "86420"),
        ({"tags": ["even", "third"]}, "60"),
        ({"tags": ["even"], "state": State.ACCEPTED}, "42"),
        ({"tags": ["Even"]}, ""),
        ({"name": "STRASSE"}, "9876543210"),
        ({"name": "e 4"}, "4"),
        ({"name": "%"}, ""),
        ({"name": "strasse", "tags": ["third"]}, "9630"),
        ({"name": "straße", "tags": ["third"], "state": State.DISMISSED}, "60"),
        ({"name": "straße", "state": State.DISMISSED}, "860"),
    ):
        assert pages(named, **filters) == list(expected), filters


@SQLITE
def test_filters_neither_read_all_jobs_nor_sort(table: JobTable) -> None:
    choices = [(), ("a",), ("a", "b")], [None, "sweep"], [None, State.RUNNING], [None, 50_000]
    for tags, part, state, before in itertools.product(*choices):
        if not tags and part is state is before is None:
            continue  # the first page of all jobs
        query = listed(state, before, part, tags).limit(51)
        text = query.compile(table.database.engine, compile_kwargs={"literal_binds": True})
        with table.database.read() as connection:
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
        first = "tags" if tags else "names" if part and state is None else "jobs"
        assert plan[0].startswith((f"SEARCH {first}", "SCAN names")), plan
        assert not [step for step in plan[1:] if step.startswith("SCAN") or "TEMP B-TREE" in step], plan


def test_a_change_of_names_is_a_version_and_none_is_not(table: JobTable) -> None:
    submit(table, "a", 1)
    before, heard = name(table, "a", "first", "x"), []
    table.listen(heard.append)
    assert name(table, "a", "first", "x") == before
    assert heard == []
    after = name(table, "a", "second", "y")
    assert (after.names.name, after.names.tags) == ("second", ("x", "y"))
    assert after.version > before.version
    assert heard == ["a"]
    assert table.edit("b", JobEdit(name="second")) is None


def test_names_of_deleted_jobs_are_deleted(table: JobTable, clock: Clock) -> None:
    empty = everything(table)
    submit(table, "a", 1)
    name(table, "a", "first", "x", "y")
    table.dismiss("a")
    clock.now += 86_400
    assert table.forget(0.5) == 1
    left = [rows for rows in everything(table) if rows and rows not in empty]
    assert "first" not in str(left)
    assert table.list(tags=["x"]) == ([], None)


@SQLITE
def test_damaged_names_are_text(table: JobTable) -> None:
    submit(table, "a", 1)
    name(table, "a", "first", "x")
    with table.database.write() as connection:
        connection.exec_driver_sql("UPDATE names SET name = CAST(x'66fe' AS TEXT)")
    (job,), _ = table.list(tags=["x"])
    assert job.names.name == "f\ufffd"
    assert name(table, "a", "first").names.name == "first"
