"""Which unit comes next: turns of jobs, cores, memory, units that were put back."""

from __future__ import annotations

from api.jobs.models import State
from api.jobs.table import JobTable
from api.work.base import Chunk, Plan
from tests.api.jobs.tables import ROOM, claim, done, given_up, results, submit


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


def test_submitted_again_it_stands_at_the_end_of_the_queue(table: JobTable) -> None:
    submit(table, "a", 1)
    submit(table, "b", 1)
    table.dismiss("a")
    submit(table, "a", 1)
    assert [claim(table).job, claim(table).job] == ["b", "a"]


def test_a_phase_waits_for_the_earlier_ones(table: JobTable) -> None:
    """Also for a unit that is being computed, or is halved; other jobs do not wait."""
    chunks = (Chunk((3,), 1, 1, 1.0, 2), Chunk((0, 1), 1, 1, 1.0), Chunk((2,), 1, 1, 1.0, 1))
    table.submit("phases", "estimates", {"name": "phases"}, Plan(4, chunks, "labellings", {"n": 3}))
    lease = claim(table)
    assert lease.rows == (0, 1)
    assert table.claim("worker", 1, ROOM) is None
    submit(table, "other", 1)
    assert claim(table).job == "other"
    table.lose(lease, "it died")
    halves = [claim(table), claim(table)]
    assert [half.rows for half in halves] == [(0,), (1,)]
    for half in halves:
        assert table.claim("worker", 1, ROOM) is None
        table.record(half, results(half.rows))
        table.finish(half)
    for row in (2, 3):
        lease = claim(table)
        assert lease.rows == (row,)
        assert table.claim("worker", 1, ROOM) is None
        table.record(lease, results(lease.rows))
        table.finish(lease)
    job = table.get("phases")
    assert job is not None
    assert job.state == State.SUCCESSFUL


def test_rows_that_lack_given_up_ones_are_computed_again_with_these(table: JobTable) -> None:
    submit(table, "a", 1, 1, 1)
    given_up(table)
    for data in ({"status": "incomplete"}, {"status": "ok"}):
        lease = claim(table)
        table.record(lease, [(lease.rows[0], data)])
        table.finish(lease)
    assert done(table, "a") == [0, 1, 2]
    assert submit(table, "a", 1, 1, 1)
    assert done(table, "a") == [2]
