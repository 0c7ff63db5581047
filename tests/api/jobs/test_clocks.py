"""Clocks that are set, and the age at which jobs are forgotten."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from structlog.testing import capture_logs

from api.jobs.table import JobTable
from tests.api.jobs.tables import LEASE, Clock, claim, done, downgrade, results, submit

DAY = 86_400.0


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


def opened(url: str, clocks: Clocks) -> JobTable:
    return JobTable(url, lease_seconds=LEASE, clock=clocks.wall, steady=clocks.steady)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks(Clock(), Clock())


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 100 * DAY])
def test_a_clock_that_is_set_changes_no_lease_and_stops_no_progress(url: str, clocks: Clocks, jump: float) -> None:
    table = opened(url, clocks)
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
def test_a_wrong_clock_deletes_nothing(url: str, clocks: Clocks, jump: float) -> None:
    """Not at a start, not while it is wrong, and not what ended meanwhile once it is right again."""

    def restarted(table: JobTable) -> JobTable:
        table.close()
        return opened(url, clocks)

    table = opened(url, clocks)
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


def test_nights_between_two_services_count(url: str, clocks: Clocks) -> None:
    table = opened(url, clocks)
    submit(table, "a", 1)
    table.dismiss("a")
    for _ in range(4):
        table.close()
        clocks.wall.now += 0.8 * DAY
        clocks.steady.now = 5.0  # another boot
        table = opened(url, clocks)
    assert table.forget(3.3) == 0
    assert table.forget(3.1) == 1
    table.close()


def test_jobs_of_an_older_version_age_from_their_end(url: str, clocks: Clocks) -> None:
    table = opened(url, clocks)
    for name in ("a", "b"):
        submit(table, name, 1)
        table.dismiss(name)
        clocks.wall.now += 10 * DAY
    table.close()
    downgrade(url, "0005")
    table = opened(url, clocks)
    assert table.forget(9) == 1
    assert [job.id for job in table.list()[0]] == ["b"]
    table.close()


def test_many_are_forgotten_a_part_at_a_time(table: JobTable, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.jobs.table._FORGOTTEN", 2)
    for name in "abc":
        submit(table, name, 1)
        table.dismiss(name)
    clock.now += 1
    assert [table.forget(0) for _ in range(3)] == [2, 1, 0]
