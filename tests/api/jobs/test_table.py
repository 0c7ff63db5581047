"""Jobs from submission to their end, and what is kept of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import text

from api.jobs.models import State
from api.jobs.row_ranges import ranges_of, rows_of
from api.jobs.table import JobTable
from nngp_prior.errors import InvalidInput
from tests.api.jobs.tables import LEASE, ROOM, SQLITE, Clock, claim, done, plan, results, submit


@pytest.mark.parametrize(
    ("rows", "ranges"), [([], []), ([0], [[0, 1]]), ([2, 0, 1], [[0, 3]]), ([5, 0, 1, 7, 6], [[0, 2], [5, 8]])]
)
def test_rows_as_ranges_and_back(rows: list[int], ranges: list[list[int]]) -> None:
    assert ranges_of(rows) == ranges
    assert rows_of(ranges) == sorted(rows)


def test_a_job_is_what_was_submitted(table: JobTable, clock: Clock) -> None:
    job, new = table.submit("a", "estimates", {"x": [1, 2.5]}, plan(2, 1), summary={"n": 3})
    assert new
    assert job == table.get("a")
    assert table.request("a") == ({"x": [1, 2.5]}, {"n": 3})
    assert (job.id, job.kind, job.summary, job.rows, job.unit) == ("a", "estimates", {"n": 3}, 3, "labellings")
    assert (job.state, job.attempt, job.losses, job.done, job.given_up) == (State.ACCEPTED, 1, 0, 0, 0)
    assert (job.stage, job.error, job.started, job.finished) == (None, None, None, None)
    assert job.created == job.updated == datetime.fromtimestamp(clock.now, UTC)


def test_the_same_job_twice_is_one(table: JobTable) -> None:
    assert submit(table, "a", 2)
    before = table.get("a")
    assert not submit(table, "a", 2)
    assert table.get("a") == before
    assert table.counts()["units_waiting"] == 1


def test_from_accepted_to_successful(table: JobTable, clock: Clock) -> None:
    submit(table, "a", 2, 1)
    first = claim(table)
    assert (first.job, first.kind, first.request, first.rows) == ("a", "estimates", {"name": "a"}, (0, 1))
    assert (first.bytes, first.cores, first.until) == (100, 1, clock.now + LEASE)
    clock.now += 1
    second = claim(table)
    assert second.rows == (2,)
    job = table.get("a")
    assert job is not None
    assert job.state == State.RUNNING
    assert job.started == datetime.fromtimestamp(clock.now - 1, UTC)  # by the first claim
    assert table.record(first, results([1]))
    table.progress(second, "tiles", 1, 2)
    assert table.record(second, results([2]))
    table.finish(second)
    assert table.record(first, results([0]))
    job = table.get("a")
    assert job is not None
    assert (job.state, job.done, job.stage, job.losses) == (State.SUCCESSFUL, 3, None, 0)
    assert job.finished == datetime.fromtimestamp(clock.now, UTC)
    table.finish(first)  # the worker hears of its end only now
    assert table.get("a") == job
    assert list(table.results("a")) == results([0, 1, 2])
    names = {"accepted", "running", "successful", "failed", "dismissed", "units_waiting", "units_running"}
    assert table.counts() == dict.fromkeys(names, 0) | {"successful": 1}


def test_a_row_is_stored_once(table: JobTable) -> None:
    submit(table, "a", 3)
    lease = claim(table)
    assert table.record(lease, results([0], by="first"))
    assert table.record(lease, [*results([0, 1], by="second"), *results([1], by="third")])
    assert table.record(lease, [])
    assert list(table.results("a")) == [*results([0], by="first"), *results([1], by="second")]
    job = table.get("a")
    assert job is not None
    assert (job.done, job.state) == (2, State.RUNNING)


def test_a_row_of_another_unit_is_refused(table: JobTable) -> None:
    submit(table, "a", 2, 2)
    with pytest.raises(InvalidInput, match=r"rows: got \[2, 9\]"):
        table.record(claim(table), results([1, 2, 9]))
    assert done(table, "a") == []


def test_a_job_without_rows_is_done_at_once(table: JobTable) -> None:
    submit(table, "a")
    job = table.get("a")
    assert job is not None
    assert job.state == State.SUCCESSFUL
    assert table.counts()["units_waiting"] == 0


def test_a_unit_that_is_finished_without_all_rows_is_lost(table: JobTable) -> None:
    submit(table, "a", 1)
    for _ in range(3):
        table.finish(claim(table))
    assert [data["status"] for _, data in table.results("a")] == ["worker-crashed"]


def test_failed(table: JobTable) -> None:
    submit(table, "a", 2, 2)
    first, second = claim(table), claim(table)
    table.record(second, results([3]))
    table.fail(first, {"code": "kernel-too-large"})
    job = table.get("a")
    assert job is not None
    assert (job.state, job.error) == (State.FAILED, {"code": "kernel-too-large"})
    assert done(table, "a") == [3]
    assert table.counts()["units_running"] == 0
    assert table.dismiss("a") == job  # it is over already


@pytest.mark.parametrize("end", ["failed", "dismissed"])
def test_submitted_again_it_keeps_its_rows(table: JobTable, clock: Clock, end: str) -> None:
    submit(table, "a", 3, 1, 2)
    first, second = claim(table), claim(table)
    table.record(first, results([1]))
    table.record(second, results([3]))
    table.lose(first, "killed")
    if end == "failed":
        table.fail(second, {"code": "x"})
    else:
        table.dismiss("a")
    clock.now += 10
    assert submit(table, "a", 3, 1, 2)
    job = table.get("a")
    assert job is not None
    assert (job.state, job.attempt, job.done, job.losses) == (State.ACCEPTED, 2, 2, 0)
    assert (job.error, job.started, job.finished) == (None, None, None)
    assert job.created == datetime.fromtimestamp(clock.now - 10, UTC)
    assert claim(table).rows == (0, 2)
    assert claim(table).rows == (4, 5)
    assert table.claim("worker", 1, ROOM) is None


def test_a_successful_job_is_not_computed_again(table: JobTable) -> None:
    submit(table, "a", 1)
    table.record(claim(table), results([0]))
    assert not submit(table, "a", 1)
    assert table.open_jobs() == 0


def test_100_000_rows_are_soon_submitted_and_stored_in_few_words(table: JobTable) -> None:
    big = plan(*[50_000] * 2)
    begin = time.perf_counter()
    table.submit("a", "estimates", {}, big)
    lease = claim(table)
    assert time.perf_counter() - begin < 1.0  # 0.04 s
    assert lease.rows == tuple(range(50_000))
    with table.database.read() as connection:
        assert connection.execute(text("SELECT max(length(CAST(rows AS TEXT))) FROM units")).scalar_one() < 40


@pytest.fixture
def queries(table: JobTable) -> Iterator[list[str]]:
    """How SQLite carries out what the test asks for."""
    plans: list[str] = []

    def explain(connection, cursor, statement, parameters, context, many) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")) and not many:
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row[3] for row in cursor.fetchall())

    sqlalchemy_event.listen(table.database.engine, "before_cursor_execute", explain)
    yield plans
    sqlalchemy_event.remove(table.database.engine, "before_cursor_execute", explain)


@SQLITE
def test_nothing_that_workers_do_reads_a_table_through_or_sorts(table: JobTable, queries: list[str]) -> None:
    for i in range(50):
        submit(table, f"job{i}", 2, 2)
    queries.clear()
    lease = claim(table)
    assert {"ix_jobs_turn", "ix_units_queue"} <= {word for step in queries for word in step.split()}
    table.heartbeat([lease])
    table.progress(lease, "tiles", 1, 2)
    table.record(lease, results([0]))
    table.lose(lease, "killed")
    table.expire()
    table.get("job3")
    table.open_jobs()
    table.dismiss("job3")
    list(table.results("job3"))
    assert queries
    slow = [step for step in queries if step.startswith("SCAN") and "tickets" not in step and "ix_" not in step]
    assert not [step for step in queries if "TEMP B-TREE" in step], queries
    assert not slow, slow


def test_a_failed_job_names_the_request_that_began_its_attempt(table: JobTable) -> None:
    for request_id in ("first", "second"):
        table.submit("a", "estimates", {}, plan(1), request_id)
        table.fail(claim(table), {"code": "x", "request_id": None})
        job = table.get("a")
        assert job is not None
        assert (job.request_id, job.error) == (request_id, {"code": "x", "request_id": request_id})


def test_a_job_begins_anew_without_its_rows(table: JobTable) -> None:
    submit(table, "a", 1, 1)
    lease = claim(table)
    table.record(lease, results([0], by="before"))
    zombie = claim(table)
    assert [job.id for job in table.outdated({"jax": "2"})] == []
    newer = replace(plan(1, 1), facts={"n": 3, "versions": {"jax": "2"}})
    table.submit("a", "estimates", {"name": "a"}, newer, anew=True)
    assert table.outdated({"jax": "2"}) == []
    assert [job.id for job in table.outdated({"jax": "3"})] == ["a"]
    assert not table.record(zombie, results([1], by="before"))
    for row in (0, 1):
        lease = claim(table)
        assert lease.rows == (row,)
        table.record(lease, results([row], by="after"))
    assert list(table.results("a")) == results([0, 1], by="after")
    job = table.get("a")
    assert job is not None
    assert (job.state, job.attempt, job.done) == (State.SUCCESSFUL, 2, 2)


@SQLITE
def test_a_service_whose_database_another_one_uses_claims_nothing(table: JobTable, url: str) -> None:
    table.reclaim("first")
    submit(table, "a", 1)
    other = JobTable(url)
    other.reclaim("second")
    assert not table.taken
    with pytest.raises(InvalidInput, match="another service has begun to use the database"):
        claim(table)
    assert table.taken
    assert claim(other).job == "a"
    other.close()
