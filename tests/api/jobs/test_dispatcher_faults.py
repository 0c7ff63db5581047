"""The dispatcher with full disks, defects, and workers and servers that die."""

from __future__ import annotations

import itertools
import shutil
import threading
import time

import pytest
from structlog.testing import capture_logs

from api.executors.base import Done, Listener, Lost, Outcome, PutBack, Task
from api.jobs import dispatcher as module
from api.jobs.models import State
from api.jobs.table import JobTable
from api.problems import StorageFull
from tests.api.jobs.dispatchers import LIMIT, Start
from tests.api.jobs.tables import submit
from tests.api.jobs.threads import Threads, all_rows, ended, failing


def test_a_unit_that_is_put_back_comes_again_and_has_lost_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TICK", 0.05)
    monkeypatch.setattr(module, "_LONGEST_PAUSE", 0.1)
    tries = itertools.count()

    def later(task: Task, listener: Listener, end: threading.Event) -> Outcome:
        return PutBack("no space left") if next(tries) < 3 else all_rows(task, listener, end)

    table, _ = start(Threads(1, later=later))
    submit(table, "later", 2)
    (job,) = ended(table, "later")
    assert (job.state, job.losses, next(tries)) == (State.SUCCESSFUL, 0, 4)


def test_a_table_that_cannot_be_used_is_one_line_in_the_log(start: Start, url: str) -> None:
    table = JobTable(url)
    failing(table, "expire", StorageFull("full"), times=10**9)
    with capture_logs() as logged:
        start(Threads(1), table, lease_seconds=0.15)
        time.sleep(0.4)  # thousands of times, if it were tried again at once
    assert [line["event"] for line in logged if line["log_level"] == "error"] == ["leases could not be prolonged"]


@pytest.mark.parametrize("method", ["record", "finish", "claim", "progress", "heartbeat", "expire"])
def test_a_full_disk_loses_nothing(start: Start, url: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TICK", 0.05)
    monkeypatch.setattr(module, "_LONGEST_PAUSE", 0.1)

    def with_progress(task: Task, listener: Listener, end: threading.Event) -> Outcome:
        listener.progress("rows", 0, len(task.rows))
        return all_rows(task, listener, end)

    table = JobTable(url)
    failing(table, method, StorageFull("full"), times=2)
    executor = Threads(1, progress=with_progress)
    start(executor, table)
    submit(table, "progress", 3)
    (job,) = ended(table, "progress")
    assert (job.state, job.done, job.losses) == (State.SUCCESSFUL, 3, 0)
    assert executor.began == ["progress"]


def test_nothing_is_begun_on_a_disk_that_is_nearly_full(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TICK", 0.05)
    real, free = shutil.disk_usage("/"), 10
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: real._replace(free=free))
    executor = Threads(1)
    table, _ = start(executor, min_free_disk=11)
    submit(table, "fine", 1)
    time.sleep(0.3)
    assert executor.began == []
    assert table.get("fine").state == State.ACCEPTED  # pyright: ignore[reportOptionalMemberAccess]
    free = 11
    assert ended(table, "fine")[0].state == State.SUCCESSFUL


@pytest.mark.parametrize("method", ["record", "finish"])
def test_a_defect_in_the_table_ends_no_slot(start: Start, url: str, method: str) -> None:
    table = JobTable(url, lease_seconds=0.5)
    failing(table, method, ZeroDivisionError("a bug"), times=1)
    _, dispatcher = start(Threads(1), table, lease_seconds=0.5)
    submit(table, "fine1", 1)
    submit(table, "fine2", 1)
    assert {job.state for job in ended(table, "fine1", "fine2")} == {State.SUCCESSFUL}
    assert dispatcher.ready()


def test_the_end_comes_also_while_the_disk_is_full(start: Start, url: str) -> None:
    table = JobTable(url)
    failing(table, "record", StorageFull("full"), times=10**9)
    executor = Threads(1)
    _, dispatcher = start(executor, table)
    submit(table, "fine", 2)
    while not executor.began:
        time.sleep(0.01)
    begun = time.monotonic()
    dispatcher.stop()
    assert time.monotonic() - begun < 2
    assert table.counts()["units_waiting"] == 1


def test_a_row_that_is_lost_thrice_is_refused_and_the_others_are_done(start: Start) -> None:
    def crash(task: Task, listener: Listener, end: threading.Event) -> Outcome:
        for row in task.rows:
            if row == 2:
                return Lost("it was ended by SIGSEGV")
            listener.rows([(row, {"labelling": row, "status": "ok"})])
        return Done()

    table, _ = start(Threads(2, crash=crash))
    submit(table, "crash", 5)
    (job,) = ended(table, "crash")
    assert (job.state, job.losses) == (State.SUCCESSFUL, 5)  # two with others, three alone
    statuses = [result["status"] for _, result in table.results("crash")]
    assert statuses == ["ok", "ok", "worker-crashed", "ok", "ok"]


def test_units_of_a_server_that_died_are_taken_over(start: Start, url: str) -> None:
    table = JobTable(url, lease_seconds=0.6)
    submit(table, "fine", 2)
    assert table.claim("one that dies", 1, LIMIT) is not None
    start(Threads(1), table, lease_seconds=0.6)
    (job,) = ended(table, "fine")
    assert (job.state, job.losses) == (State.SUCCESSFUL, 0)
