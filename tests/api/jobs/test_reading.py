"""What the table of jobs says: jobs, results, events; and who hears of changes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from api.jobs.models import State
from api.jobs.table import JobTable
from nngp_prior.errors import InvalidInput
from tests.api.jobs.tables import LEASE, ROOM, Clock, claim, done, results, submit


def test_no_job(table: JobTable) -> None:
    assert table.get("a") is None
    assert table.dismiss("a") is None
    assert list(table.results("a")) == []
    assert list(table.results("a", [0])) == []
    assert table.events("a") == []
    assert table.claim("worker", 1, ROOM) is None
    assert table.heartbeat([]) == set()
    assert table.expire() == 0


def test_the_version_grows_with_every_change(table: JobTable) -> None:
    seen: list[int] = []

    def grows() -> bool:
        job = table.get("a")
        assert job is not None
        seen.append(job.version)
        return len(seen) == 1 or seen[-1] > seen[-2]

    submit(table, "a", 3)
    assert grows()
    lease = claim(table)
    assert grows()
    table.progress(lease, "tiles", 1, 2)
    assert grows()
    table.record(lease, results([0]))
    assert grows()
    table.lose(lease, "killed")
    assert grows()
    table.dismiss("a")
    assert grows()
    submit(table, "a", 3)
    assert grows()
    table.fail(claim(table), {"code": "x"})
    assert grows()


def test_listed_newest_first_in_pages(table: JobTable) -> None:
    for i in range(7):
        submit(table, f"job{i}", 1)
    table.dismiss("job3")
    pages: list[list[str]] = []
    cursor = None
    while not pages or cursor is not None:
        jobs, cursor = table.list(limit=3, cursor=cursor)
        pages.append([job.id for job in jobs])
        if len(pages) == 1:
            submit(table, "late", 1)  # between two pages: moves nothing
    assert pages == [["job6", "job5", "job4"], ["job3", "job2", "job1"], ["job0"]]
    assert [job.id for job in table.list(State.DISMISSED)[0]] == ["job3"]
    assert table.list(State.FAILED) == ([], None)
    assert len(table.list("accepted", limit=7)[0]) == 7
    assert table.list("accepted", limit=7)[1] is None
    assert table.open_jobs() == 7


@pytest.mark.parametrize("cursor", ["", "x", "é", "9" * 40, "../..", "AAAAAAAAAA"])
def test_a_cursor_that_is_none(table: JobTable, cursor: str) -> None:
    with pytest.raises(InvalidInput, match="cursor: got"):
        table.list(cursor=cursor)


def test_results_in_order_some_or_all_and_more_than_a_page(table: JobTable) -> None:
    submit(table, "a", 600)
    lease = claim(table)
    table.record(lease, results(range(300, 600)))
    table.record(lease, results(range(0, 299)))
    rows = [*range(299), *range(300, 600)]
    assert list(table.results("a")) == results(rows)
    assert list(table.results("a", [400, 3, 299, 3, 5000])) == results([3, 400])
    assert [row for row, _ in table.results("a", range(600))] == rows
    assert list(table.results("a", [])) == []


def test_a_slow_reader_of_results_keeps_nobody(table: JobTable) -> None:
    submit(table, "a", 600)
    lease = claim(table)
    table.record(lease, results(range(550)))
    reader = table.results("a")
    assert next(reader)[0] == 0
    assert table.database.engine.pool.checkedout() == 0  # pyright: ignore[reportAttributeAccessIssue]
    table.record(lease, results(range(550, 600)))
    assert [row for row, _ in reader] == list(range(1, 600))


def test_events_replay_after_an_id(table: JobTable, clock: Clock) -> None:
    submit(table, "b", 1)
    submit(table, "a", 2, 1)
    claim(table)
    first, second = claim(table), claim(table)
    table.progress(first, "tiles", 1, 2)
    table.record(second, results([2]))
    table.lose(first, "killed")
    table.record(claim(table), results([0]))
    assert ("progress", {"stage": "tiles", "done": 1, "total": 2}) in [(e.type, e.data) for e in table.events("a")]
    table.record(claim(table), results([1]))
    events = table.events("a")
    assert [(event.type, event.data) for event in events] == [  # without progress, which is past
        ("accepted", {"attempt": 1, "done": 0, "total": 3}),
        ("running", {}),
        ("rows", {"rows": [2], "done": 1, "total": 3}),
        ("lost", {"reason": "killed", "rows": [[0, 2]], "losses": 1}),
        ("rows", {"rows": [0], "done": 2, "total": 3}),
        ("rows", {"rows": [1], "done": 3, "total": 3}),
        ("successful", {"rows": 3}),
    ]
    ids = [event.id for event in events]
    assert ids == sorted(set(ids))
    assert events[0].created == datetime.fromtimestamp(clock.now, UTC)
    for i, known in enumerate(ids):
        assert table.events("a", known) == events[i + 1 :]


def test_events_are_those_of_the_attempt(table: JobTable) -> None:
    submit(table, "a", 2)
    claim(table)
    table.dismiss("a")
    last = table.events("a")[-1]
    assert last.type == "dismissed"
    submit(table, "a", 2)
    assert [event.type for event in table.events("a")] == ["accepted"]
    assert table.events("a") == table.events("a", last.id)  # who has seen the end sees the new beginning


def test_events_of_progress_are_a_second_apart_and_the_job_has_the_last(table: JobTable, clock: Clock) -> None:
    submit(table, "a", 1, 1)
    leases = claim(table), claim(table)
    for i in range(30):
        clock.now += 0.125
        table.progress(leases[i % 2], "tiles", i, 30)
        job = table.get("a")
        assert job is not None
        assert job.stage == {"stage": "tiles", "done": i, "total": 30}
    events = [event for event in table.events("a") if event.type == "progress"]
    assert [event.data["done"] for event in events] == [0, 8, 16, 24]


def test_listeners_hear_of_each_change_when_it_is_there(table: JobTable, capfd: pytest.CaptureFixture[str]) -> None:
    heard: list[tuple[str, str]] = []

    def callback(job_id: str) -> None:
        job = table.get(job_id)
        assert job is not None
        heard.append((job_id, job.state))

    def broken(_: str) -> None:
        raise ValueError("closed")

    remove = [table.listen(broken), table.listen(callback)]
    submit(table, "a", 2)
    submit(table, "a", 2)  # nothing changes
    lease = claim(table)
    table.heartbeat([lease])
    table.record(lease, results([0]))
    table.record(lease, results([0]))
    table.record(lease, results([1]))
    table.finish(lease)
    table.dismiss("a")
    assert heard == [("a", "accepted"), ("a", "running"), ("a", "running"), ("a", "successful")]
    for each in remove:
        each()
    submit(table, "b", 1)
    assert len(heard) == 4
    assert "A listener failed." in "".join(capfd.readouterr())


def test_what_is_not_committed_is_not_told(table: JobTable) -> None:
    submit(table, "a", 1)
    lease = claim(table)
    heard: list[str] = []
    table.listen(heard.append)
    with pytest.raises(InvalidInput):
        table.record(lease, results([7]))
    assert heard == []


def test_another_table_on_the_file_sees_all(table: JobTable, url: str, clock: Clock) -> None:
    submit(table, "a", 2, 1)
    submit(table, "b", 1)
    lease = claim(table)
    table.record(lease, results([0]))
    table.progress(lease, "tiles", 1, 2)
    again = JobTable(url, lease_seconds=LEASE, clock=clock, steady=clock)
    for name in ("a", "b"):
        assert again.get(name) == table.get(name)
        assert again.events(name) == table.events(name)
        assert list(again.results(name)) == list(table.results(name))
    assert again.counts() == table.counts()
    assert again.record(lease, results([1]))  # a lease outlives the server that gave it
    assert done(table, "a") == [0, 1]
    again.close()


def test_a_glance(table: JobTable) -> None:
    assert table.glance("a") is None
    submit(table, "a", 1)
    job = table.get("a")
    assert job is not None
    assert table.glance("a") == (State.ACCEPTED, job.version)
