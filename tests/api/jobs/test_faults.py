"""Workers that die or come back as zombies; services that end; many workers at once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import event

from api.jobs.models import Lease, State
from api.jobs.table import JobTable
from api.jobs.transaction import INTERRUPTIONS, LOSSES
from tests.api.jobs.tables import (
    LEASE,
    ROOM,
    Clock,
    claim,
    everything,
    given_up,
    results,
    submit,
)

WRITES: dict[str, Callable[[JobTable, Lease], Any]] = {
    "record": lambda table, lease: table.record(lease, results(lease.rows, by="zombie")),
    "progress": lambda table, lease: table.progress(lease, "zombie", 1, 2),
    "finish": lambda table, lease: table.finish(lease),
    "lose": lambda table, lease: table.lose(lease, "zombie"),
    "put_back": lambda table, lease: table.put_back(lease, "zombie"),
    "fail": lambda table, lease: table.fail(lease, {"code": "zombie"}),
    "heartbeat": lambda table, lease: table.heartbeat([lease]),
}


def expired(table: JobTable, clock: Clock) -> None:
    clock.now += LEASE + 0.001
    assert table.expire() == 1


def taken_over(table: JobTable, clock: Clock) -> None:
    expired(table, clock)
    claim(table, "another")


def dismissed(table: JobTable, _: Clock) -> None:
    table.dismiss("a")


def begun_anew(table: JobTable, clock: Clock) -> None:
    dismissed(table, clock)
    submit(table, "a", 1)
    claim(table, "another")


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("end", [expired, taken_over, dismissed, begun_anew])
def test_a_zombie_changes_nothing(
    table: JobTable, clock: Clock, write: str, end: Callable[[JobTable, Clock], None]
) -> None:
    submit(table, "a", 1)
    zombie = claim(table)
    end(table, clock)
    before = everything(table)
    answer = WRITES[write](table, zombie)
    assert everything(table) == before
    assert not answer  # False of record, no unit of heartbeat


def test_fences_grow(table: JobTable, clock: Clock) -> None:
    submit(table, "a", 1)
    fences = []
    for _ in range(3):
        fences.append(claim(table).fence)
        table.dismiss("a")
        submit(table, "a", 1)
    assert fences == sorted(set(fences))


def test_a_lease_lasts_as_long_as_its_heart_beats(table: JobTable, clock: Clock) -> None:
    submit(table, "a", 2, 2)
    silent, alive = claim(table), claim(table)
    for _ in range(4):
        clock.now += LEASE / 2
        assert table.heartbeat([alive]) == {alive.unit}
        table.expire()
    job = table.get("a")
    assert job is not None
    assert job.losses == 0  # it is the service that lost sight of it
    assert table.heartbeat([silent, alive]) == {alive.unit}
    assert table.record(alive, results([2]))
    assert claim(table).rows == (0, 1)


def test_a_lost_unit_goes_on_where_it_was_in_halves(table: JobTable) -> None:
    submit(table, "a", 9)
    submit(table, "b", 1)
    lease = claim(table)
    table.record(lease, results([0, 1, 4]))
    table.lose(lease, "killed by signal 9")
    assert [claim(table).job for _ in range(2)] == ["b", "a"]
    table.put_back(lease, "none of its own any more")
    assert claim(table).rows == (6, 7, 8)
    job = table.get("a")
    assert job is not None
    assert (job.losses, job.attempt, job.state) == (1, 1, State.RUNNING)


@pytest.mark.parametrize("size", [1, 2, 3, 8, 13])
def test_a_row_that_kills_is_found_and_all_others_get_results(table: JobTable, size: int) -> None:
    deadly = size * 2 // 3
    submit(table, "a", size)
    deaths = Counter[int]()
    while (lease := table.claim("worker", 1, ROOM)) is not None:
        for row in lease.rows:
            if row == deadly:
                deaths[len(lease.rows)] += 1
                table.lose(lease, "killed by signal 11")
                break
            assert table.record(lease, results([row]))
        else:
            table.finish(lease)
    job = table.get("a")
    assert job is not None
    assert (job.state, job.done, job.losses) == (State.SUCCESSFUL, size, deaths.total())
    assert deaths[1] == LOSSES
    found = dict(table.results("a"))
    assert found.pop(deadly) == {
        "labelling": deadly, "log_p": None, "stderr": None, "status": "worker-crashed",
        "message": f"Its worker died {LOSSES} times, at last: killed by signal 11. "
        "Try it alone, with fewer inputs.",
    }  # fmt: skip
    assert list(found.items()) == results(row for row in range(size) if row != deadly)


def test_a_lone_row_is_given_up_at_its_third_loss_and_tried_again_when_it_is_submitted_again(table: JobTable) -> None:
    submit(table, "a", 1)
    job = given_up(table).get("a")
    assert job is not None
    assert (job.state, job.done, job.given_up, job.is_final) == (State.SUCCESSFUL, 1, 1, False)
    assert submit(table, "a", 1)
    job = table.get("a")
    assert job is not None
    assert (job.state, job.attempt, job.done, job.given_up, job.losses) == (State.ACCEPTED, 2, 0, 0, 0)
    lease = claim(table)
    assert lease.rows == (0,)
    table.record(lease, results([0]))
    assert not submit(table, "a", 1)
    assert list(table.results("a")) == results([0])


def test_a_row_that_takes_too_much_memory_is_given_up_as_soon_as_it_is_alone(table: JobTable) -> None:
    submit(table, "a", 2)
    table.lose(claim(table), "it took 9 GiB. Use less", "memory-limit")
    table.record(claim(table), results([0]))
    table.lose(claim(table), "it took 9 GiB. Use less", "memory-limit")
    _, (_, row) = table.results("a")
    assert (row["status"], row["message"]) == ("memory-limit", "It took 9 GiB. Use less.")
    assert submit(table, "a", 2)
    assert claim(table).rows == (1,)


def test_rows_are_not_blamed_for_deaths_that_they_share(table: JobTable) -> None:
    """Workers that are killed at random, always at another row of what was one unit."""
    submit(table, "a", 8)
    for _ in range(3):
        lease = claim(table)
        table.record(lease, results(lease.rows[:-1]))
        table.lose(lease, "killed by signal 9")
        table.put_back(claim(table), "its turn comes again")
    while (lease := table.claim("worker", 1, ROOM)) is not None:
        table.record(lease, results(lease.rows))
        table.finish(lease)
    assert [row["by"] for _, row in table.results("a")] == ["worker"] * 8


def test_a_new_attempt_keeps_what_has_a_result_and_tries_what_was_given_up(table: JobTable) -> None:
    submit(table, "a", 1, 1, 1)
    for _ in range(LOSSES):
        table.lose(claim(table), "killed")
    table.record(claim(table), results([1]))
    table.dismiss("a")
    submit(table, "a", 1, 1, 1)
    job = table.get("a")
    assert job is not None
    assert (job.done, job.given_up) == (1, 0)
    assert [claim(table).rows, claim(table).rows] == [(0,), (2,)]


def test_a_new_attempt_reads_no_results(table: JobTable) -> None:
    submit(table, "a", 1, 1)
    for _ in range(LOSSES):
        table.lose(claim(table), "killed")
    named = {"message": 'has "status": "worker-crashed"', "status": "ok"}
    table.record(claim(table), [(1, named)])
    said: list[str] = []
    event.listen(table.database.engine, "before_cursor_execute", lambda _c, _k, statement, *_: said.append(statement))
    submit(table, "a", 1, 1)
    assert not [statement for statement in said if statement.startswith("SELECT") and "results.data" in statement]
    assert claim(table).rows == (0,)
    assert dict(table.results("a")) == {1: named}


@pytest.mark.parametrize("end", [lambda table, clock: table.reclaim(), expired])
def test_the_end_of_the_service_is_no_fault_of_the_rows(table: JobTable, clock: Clock, end: Callable[..., Any]) -> None:
    submit(table, "a", 3)
    table.record(claim(table), results([1]))
    for _ in range(60):
        end(table, clock)
        assert claim(table).rows == (0, 2)  # whole
    table.lose(claim_of(table, clock), "killed")
    job = table.get("a")
    assert job is not None
    assert (job.losses, job.given_up, job.done) == (1, 0, 1)


def claim_of(table: JobTable, clock: Clock) -> Lease:
    expired(table, clock)
    return claim(table)


def test_what_takes_the_whole_service_with_it_is_given_up_in_the_end(table: JobTable) -> None:
    submit(table, "a", 2)
    starts = 0
    while (lease := table.claim("worker", 1, ROOM)) is not None:
        if 1 in lease.rows:
            assert table.reclaim() == 1
            starts += 1
        else:
            table.record(lease, results([0]))
            table.finish(lease)
    assert starts == INTERRUPTIONS + 1  # once more, when it is alone
    found = dict(table.results("a"))
    assert (found[0]["by"], found[1]["status"]) == ("worker", "worker-crashed")
    assert f"ended {INTERRUPTIONS + 1} times" in str(found[1]["message"])


def test_many_workers_never_have_the_same_unit_and_effects_happen_once(table: JobTable) -> None:
    """Some of the workers die, and come back as zombies when another has their rows."""
    for i in range(12):
        submit(table, f"job{i}", *[2] * (1 + i % 3))
    units = sum(1 + i % 3 for i in range(12))
    running: set[tuple[str, int]] = set()
    guard, start = threading.Lock(), threading.Barrier(6)

    def work(me: int) -> int:
        start.wait()
        count = 0
        while (lease := table.claim(f"worker{me}", 1, ROOM)) is not None:
            mine = {(lease.job, row) for row in lease.rows}
            with guard:
                assert not running & mine
                running.update(mine)
            if lease.rows[0] % 4 == 0 and len(lease.rows) == 2:
                with guard:
                    running.difference_update(mine)
                table.lose(lease, "killed")
                assert not table.record(lease, results(lease.rows, by="zombie"))
                continue
            if len(lease.rows) == 2:
                assert table.record(lease, results(lease.rows[:1]))
            assert table.record(lease, results(lease.rows))
            with guard:
                running.difference_update(mine)
            table.finish(lease)
            count += 1
        return count

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(work, range(6))) >= units
    while (lease := table.claim("last", 1, ROOM)) is not None:  # put back after all others had left
        table.record(lease, results(lease.rows))
    for i in range(12):
        job = table.get(f"job{i}")
        assert job is not None
        assert job.state == State.SUCCESSFUL
        assert list(table.results(f"job{i}")) == results(range(2 * (1 + i % 3)))
        ends = [event.type for event in table.events(f"job{i}") if event.type in {"running", "successful"}]
        assert ends == ["running", "successful"]


def test_the_same_job_50_times_at_once_is_one(table: JobTable, url: str) -> None:
    other = JobTable(url)  # another process would have its own lock, too
    with ThreadPoolExecutor(10) as pool:
        new = list(pool.map(lambda i: submit(other if i % 2 else table, "a", 3), range(50)))
    other.close()
    assert Counter(new) == {True: 1, False: 49}
    assert table.counts()["units_waiting"] == 1
