"""Jobs from submission to their end, and what is kept of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import text
from structlog.testing import capture_logs

from api.jobs.models import State
from api.jobs.row_ranges import ranges_of, rows_of
from api.jobs.table import JobTable
from nngp_prior.errors import InvalidInput
from tests.api.jobs.tables import LEASE, ROOM, Clock, claim, done, downgrade, plan, results, submit, url

DAY = 86_400.0


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


def test_jobs_take_turns(table: JobTable) -> None:
    """One large job and later small ones: each gets a unit before any gets another."""
    submit(table, "large", *[1] * 6)
    first = [claim(table), claim(table)]  # there is no other
    submit(table, "small1", 1)
    submit(table, "small2", 1, 1)
    for lease in first:  # a slot is free after a unit that began before the small ones came
        table.record(lease, results(lease.rows))
        table.finish(lease)
    order = []
    while (lease := table.claim("worker", 1, ROOM)) is not None:
        order.append((lease.job, lease.rows[0]))
        table.record(lease, results(lease.rows))
        table.finish(lease)
    assert order[:5] == [("small1", 0), ("small2", 0), ("large", 2), ("small2", 1), ("large", 3)]
    assert order[5:] == [("large", 4), ("large", 5)]


def test_a_stream_of_small_jobs_does_not_starve_a_large_one(table: JobTable) -> None:
    submit(table, "large", *[1] * 3)
    served = []
    for i in range(12):
        submit(table, f"small{i}", 1)
        submit(table, f"more{i}", 1)
        lease = claim(table)
        served.append(lease.job)
        table.record(lease, results(lease.rows))
        table.finish(lease)
    assert served.count("large") == 3


def test_the_next_unit_is_not_overtaken(table: JobTable) -> None:
    submit(table, "wide", 1, cores=0, nbytes=50)
    submit(table, "big", 1, nbytes=200)
    submit(table, "small", 1, nbytes=1)
    assert table.claim("worker", 1, ROOM, all_cores=2) is None  # all cores means both
    assert table.claim("worker", 2, 49, all_cores=2) is None
    wide = table.claim("worker", 2, 50, all_cores=2)
    assert wide is not None
    assert (wide.job, wide.cores) == ("wide", 2)
    assert table.claim("worker", 2, 199) is None  # small would fit, but it is not its turn
    order = [claim(table).job, claim(table).job]
    assert order == ["big", "small"]


def test_more_cores_than_there_are_is_all_of_them(table: JobTable) -> None:
    submit(table, "a", 1, cores=64)
    lease = table.claim("worker", 2, ROOM, all_cores=2)
    assert lease is not None
    assert lease.cores == 2


def test_a_unit_that_is_put_back_waits_in_its_place_and_has_lost_nothing(table: JobTable) -> None:
    submit(table, "a", 3, 1)
    lease = claim(table)
    table.record(lease, results([0]))
    table.put_back(lease, "shutdown")
    for _ in range(5):
        lease = claim(table)
        assert lease.job == "a"
        table.put_back(lease, "no room on the disk")
    assert claim(table).rows == (1, 2)
    job = table.get("a")
    assert job is not None
    assert (job.losses, job.state) == (0, State.RUNNING)


def test_a_unit_put_back_or_lost_after_its_last_row_is_gone(table: JobTable) -> None:
    submit(table, "a", 1, 1, 1)
    first, second = claim(table), claim(table)
    table.record(first, results([0]))
    table.record(second, results([1]))
    table.put_back(first, "shutdown")
    table.lose(second, "killed")
    job = table.get("a")
    assert job is not None
    assert job.losses == 0
    assert table.counts()["units_waiting"] == 1
    assert claim(table).rows == (2,)


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


def test_submitted_again_it_stands_at_the_end_of_the_queue(table: JobTable) -> None:
    submit(table, "a", 1)
    submit(table, "b", 1)
    table.dismiss("a")
    submit(table, "a", 1)
    assert [claim(table).job, claim(table).job] == ["b", "a"]


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
        assert connection.execute(text("SELECT max(length(rows)) FROM units")).scalar_one() < 40


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


def test_old_jobs_are_forgotten(table: JobTable, clock: Clock) -> None:
    for name in ("old", "again", "open"):
        submit(table, name, 2)
    for _ in range(2):
        table.record(claim(table), results([0]))
    table.dismiss("old")
    table.dismiss("again")
    clock.now += 86_400
    submit(table, "again", 2)
    submit(table, "new", 1)
    table.dismiss("new")
    assert table.forget(float("inf")) == 0
    assert table.forget(1.5) == 0
    clock.now += 3_600
    assert table.forget(1.0) == 1
    assert table.get("old") is None
    assert (table.events("old"), done(table, "old")) == ([], [])
    assert done(table, "again") == [0]
    assert {job.id for job in table.list()[0]} == {"again", "open", "new"}
    assert table.forget(0) == 1  # what has not ended stays
    assert submit(table, "old", 2)  # and begins anew
    assert done(table, "old") == []


class Clocks(NamedTuple):
    wall: Clock
    steady: Clock


def opened(folder: Path, clocks: Clocks) -> JobTable:
    return JobTable(url(folder), lease_seconds=LEASE, clock=clocks.wall, steady=clocks.steady)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks(Clock(), Clock())


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 100 * DAY])
def test_a_clock_that_is_set_changes_no_lease_and_stops_no_progress(
    tmp_path: Path, clocks: Clocks, jump: float
) -> None:
    table = opened(tmp_path, clocks)
    submit(table, "a", 1, 1)
    lease = claim(table)
    table.progress(lease, "tiles", 0, 9)
    clocks.wall.now += jump
    other = claim(table)
    assert table.expire() == 0
    table.progress(lease, "tiles", 1, 9)
    assert [event.data["done"] for event in table.events("a") if event.type == "progress"] == [0, 1]
    clocks.wall.now -= jump
    clocks.steady.now += LEASE + 1  # time goes on for both: that was the last that was heard of them
    assert table.expire() == 2
    assert {claim(table).unit, claim(table).unit} == {lease.unit, other.unit}
    table.close()


@pytest.mark.parametrize("jump", [100 * DAY, -100 * DAY])
def test_a_wrong_clock_deletes_nothing(tmp_path: Path, clocks: Clocks, jump: float) -> None:
    """Not at a start, not while it is wrong, and not what ended meanwhile once it is right again."""

    def restarted(table: JobTable) -> JobTable:
        table.close()
        return opened(tmp_path, clocks)

    table = opened(tmp_path, clocks)
    submit(table, "before", 1)
    table.dismiss("before")
    clocks.wall.now += jump
    with capture_logs() as logged:
        table = restarted(table)
    assert [line["event"].split(",")[0] for line in logged] == ["the clock has jumped"]
    assert table.forget(90) == 0
    submit(table, "meanwhile", 1)
    table.dismiss("meanwhile")
    clocks.wall.now -= jump
    assert table.forget(90) == 0
    table = restarted(table)
    assert table.forget(90) == 0
    for days, forgotten in ((89, 0), (2, 2)):  # of real time
        clocks.steady.now += days * DAY
        clocks.wall.now += days * DAY
        assert table.forget(90) == forgotten
    table.close()


def test_nights_between_two_services_count(tmp_path: Path, clocks: Clocks) -> None:
    table = opened(tmp_path, clocks)
    submit(table, "a", 1)
    table.dismiss("a")
    for _ in range(4):
        table.close()
        clocks.wall.now += 0.8 * DAY
        clocks.steady.now = 5.0  # another boot
        table = opened(tmp_path, clocks)
    assert table.forget(3.3) == 0
    assert table.forget(3.1) == 1
    table.close()


def test_jobs_of_an_older_version_age_from_their_end(tmp_path: Path, clocks: Clocks) -> None:
    table = opened(tmp_path, clocks)
    for name in ("a", "b"):
        submit(table, name, 1)
        table.dismiss(name)
        clocks.wall.now += 10 * DAY
    table.close()
    downgrade(tmp_path, "0005")
    table = opened(tmp_path, clocks)
    assert table.forget(9) == 1
    assert [job.id for job in table.list()[0]] == ["b"]
    table.close()


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


def test_a_service_whose_database_another_one_uses_claims_nothing(table: JobTable, tmp_path: Path) -> None:
    table.reclaim("first")
    submit(table, "a", 1)
    other = JobTable(url(tmp_path))
    other.reclaim("second")
    assert not table.taken
    with pytest.raises(InvalidInput, match="another service has begun to use the database"):
        claim(table)
    assert table.taken
    assert claim(other).job == "a"
    other.close()


def test_many_are_forgotten_a_part_at_a_time(table: JobTable, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.jobs.table._FORGOTTEN", 2)
    for name in "abc":
        submit(table, name, 1)
        table.dismiss(name)
    clock.now += 1
    assert [table.forget(0) for _ in range(3)] == [2, 1, 0]
