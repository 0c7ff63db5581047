"""Units from the table of jobs to an executor and back, through dismissals, restarts and the end."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from api.executors.base import Cancelled, Done, Failed, Listener, Outcome, PutBack, Task
from api.executors.local import LocalExecutor
from api.jobs import dispatcher as module
from api.jobs.models import State
from api.jobs.table import JobTable
from nngp_prior.kernels import KernelCache
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.schemas.requests import EstimateRequest
from tests.api.executors.odd_child import Misbehave
from tests.api.executors.tasks import make
from tests.api.jobs.dispatchers import LIMIT, Start
from tests.api.jobs.tables import plan, submit
from tests.api.jobs.threads import Held, Threads, all_rows, ended, until_cancelled
from tests.system.server import wait_for


@pytest.fixture
def no_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is noticed by looking from time to time."""
    monkeypatch.setattr(module, "_TICK", 1000.0)


@pytest.mark.usefixtures("no_ticks")
def test_what_is_submitted_is_done_without_a_tick(start: Start) -> None:
    table, _ = start(Threads(2), lease_seconds=1000.0)
    for i in range(20):
        submit(table, f"fine{i}", 2, 1)
        (job,) = ended(table, f"fine{i}")
        assert (job.state, job.done, job.losses) == (State.SUCCESSFUL, 3, 0)
    assert table.counts()["units_running"] == 0


@pytest.mark.usefixtures("no_ticks")
def test_what_waited_before_the_start_is_done(start: Start, url: str) -> None:
    table = JobTable(url)
    for i in range(5):
        submit(table, f"fine{i}", 1, 1)
    start(Threads(2), table, lease_seconds=1000.0)
    assert {job.state for job in ended(table, *(f"fine{i}" for i in range(5)))} == {State.SUCCESSFUL}


@pytest.mark.usefixtures("no_ticks")
def test_every_slot_gets_a_unit(start: Start) -> None:
    held = Held()
    table, _ = start(Threads(4, held=held), lease_seconds=1000.0)
    submit(table, "held", 1, 1, 1, 1, 1)
    for _ in range(4):
        assert held.begun.acquire(timeout=5)
    held.go.set()
    assert ended(table, "held")[0].losses == 0
    assert held.most == 4


def test_a_slot_is_kept_for_small_jobs_as_long_as_they_come(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TICK", 0.02)
    monkeypatch.setattr(module, "_RECENT", 1000.0)
    go = threading.Semaphore(0)

    def large(task: Task, listener: Listener, end: threading.Event) -> Outcome:
        while not go.acquire(timeout=0.01):
            if end.is_set():
                return Cancelled()
        return all_rows(task, listener, end)

    executor = Threads(2, large=large)
    table, _ = start(executor)
    submit(table, "fine0", 1)
    ended(table, "fine0")
    executor.began.clear()  # what was before does not count
    submit(table, "large", *[1] * 4)
    wait_for(lambda: executor.began == ["large", "large"], 5)
    submit(table, "fine1", 1)
    go.release()
    for name in ("fine1", "fine2", "fine3"):
        submit(table, name, 1)
        ended(table, name)
    time.sleep(0.1)  # several looks at the table
    assert executor.began == ["large", "large", "fine1", "fine2", "fine3"]
    monkeypatch.setattr(module, "_RECENT", 0.0)
    wait_for(lambda: executor.began[5:] == ["large"], 5)  # the slot is not lost to it
    for _ in range(3):
        go.release()
    assert ended(table, "large")[0].done == 4


def test_units_share_cores_and_a_wide_one_is_alone(start: Start) -> None:
    held = Held()
    held.go.set()
    table, first = start(Threads(4, cores=2, held=held))
    submit(table, "held1", *[1] * 6)
    submit(table, "held2", 1, cores=0)
    ended(table, "held1", "held2")
    assert held.most <= 2
    first.stop()  # or it would take what it knows nothing of
    wide = Held()
    executor = Threads(4, cores=2, held=held, wide=wide)
    table, _ = start(executor, table)
    submit(table, "wide", 1, cores=0)
    assert wide.begun.acquire(timeout=5)
    submit(table, "held3", 1)
    time.sleep(0.1)  # nothing should happen
    assert held.running == 0
    wide.go.set()
    ended(table, "wide", "held3")


def test_a_defect_is_logged_with_its_job(start: Start) -> None:
    def act(task: Task, listener: Listener, end: threading.Event) -> Outcome:
        return Failed({"code": "internal-error"}, "Traceback: a bug")

    with capture_logs() as logged:
        table, _ = start(Threads(1, act=act))
        submit(table, "act", 1)
        ended(table, "act")
    [line] = [line for line in logged if line["log_level"] == "error"]
    assert (line["job"], line["traceback"]) == ("act", "Traceback: a bug")


def test_units_share_memory(start: Start) -> None:
    held = Held()
    table, _ = start(Threads(3, held=held), lease_seconds=1000.0)
    submit(table, "held", *[1] * 4, nbytes=LIMIT // 2)
    for _ in range(2):
        assert held.begun.acquire(timeout=5)
    assert not held.begun.acquire(timeout=0.1)
    held.go.set()
    ended(table, "held")
    assert held.most == 2


def test_a_unit_that_never_fits_fails_and_the_others_are_done(start: Start) -> None:
    table, _ = start(Threads(2))
    submit(table, "fine1", 1)
    submit(table, "fine2", 1, nbytes=LIMIT + 1)
    submit(table, "fine3", 1, nbytes=LIMIT)
    first, large, last = ended(table, "fine1", "fine2", "fine3")
    assert (first.state, large.state, last.state) == (State.SUCCESSFUL, State.FAILED, State.SUCCESSFUL)
    assert large.error is not None
    assert large.error["code"] == "kernel-too-large"
    assert "NNGP_MEMORY_LIMIT" in large.error["detail"]


def test_a_unit_waits_for_a_larger_machine_if_one_may_come(start: Start) -> None:
    """Others overtake it. Machines that come and go change the number of units at a time."""
    held = Held()
    executor = Threads(1, held=held)
    small = executor.available = replace(executor.available, may_grow=True)
    table, dispatcher = start(executor)
    submit(table, "held1", 1, nbytes=LIMIT + 1)
    submit(table, "fine1", 1)
    ended(table, "fine1")
    assert executor.began == ["fine1"]
    executor.available = replace(small, slots=3, cores=3, bytes=4 * LIMIT, task_bytes=2 * LIMIT)
    submit(table, "held2", 1, 1)
    for _ in range(3):
        assert held.begun.acquire(timeout=5)
    executor.available = replace(small, slots=0, cores=0, bytes=0)
    held.go.set()
    ended(table, "held1", "held2")
    submit(table, "fine2", 1)
    time.sleep(0.1)  # nothing should happen
    assert executor.began.count("fine2") == 0
    assert dispatcher.ready()
    executor.available = small
    ended(table, "fine2")


def test_a_unit_of_a_worker_that_leaves_is_taken_at_once(start: Start) -> None:
    tries = itertools.count()

    def act(task: Task, listener: Listener, end: threading.Event) -> Outcome:
        return PutBack("it leaves", lasting=False) if next(tries) < 9 else all_rows(task, listener, end)

    table, _ = start(Threads(1, act=act))
    submit(table, "act", 1)
    assert ended(table, "act", within=5)[0].losses == 0  # with pauses it would take a minute


def test_a_failure_is_the_jobs_and_ends_its_other_units(start: Start) -> None:
    begun = threading.Event()

    def act(task: Task, listener: Listener, end: threading.Event) -> Outcome:
        if 0 not in task.rows:
            begun.set()
            return until_cancelled(task, listener, end)
        assert begun.wait(5)
        return Failed({"code": "data-unavailable"})

    held = Held()
    executor = Threads(2, act=act, held=held)
    table, _ = start(executor)
    submit(table, "act", 1, 1)
    (job,) = ended(table, "act")
    assert (job.state, job.error) == (State.FAILED, {"code": "data-unavailable"})
    submit(table, "held", 1, 1)
    for _ in range(2):  # both slots are free
        assert held.begun.acquire(timeout=3)
    held.go.set()
    ended(table, "held")
    assert len(executor.cancelled) == 1


def test_a_dismissed_job_is_ended_at_once_and_the_slot_goes_on(start: Start) -> None:
    executor = Threads(1, endless=until_cancelled)
    table, _ = start(executor, lease_seconds=1000.0)
    submit(table, "endless", 2)
    submit(table, "fine", 1)
    while not executor.began:
        time.sleep(0.01)
    begun = time.monotonic()
    table.dismiss("endless")
    assert ended(table, "fine")[0].state == State.SUCCESSFUL
    assert time.monotonic() - begun < 1
    assert len(executor.cancelled) == 1


def test_what_another_process_dismissed_is_ended_by_the_next_heartbeat(start: Start, url: str) -> None:
    executor = Threads(1, endless=until_cancelled)
    table, _ = start(executor, lease_seconds=0.6)
    submit(table, "endless", 2)
    while not executor.began:
        time.sleep(0.01)
    other = JobTable(url)
    other.dismiss("endless")
    other.submit("fine", "estimates", {"name": "fine"}, plan(1))
    other.close()
    assert ended(table, "fine")[0].state == State.SUCCESSFUL
    assert len(executor.cancelled) == 1


def test_leases_are_kept_for_as_long_as_it_takes(start: Start) -> None:
    def long(task: Task, listener: Listener, end: threading.Event) -> Outcome:
        end.wait(1.5)
        return all_rows(task, listener, end)

    executor = Threads(1, long=long)
    table, _ = start(executor, lease_seconds=0.6)
    submit(table, "long", 1)
    (job,) = ended(table, "long")
    assert (job.losses, executor.began) == (0, ["long"])


def test_a_process_is_not_killed_for_having_told_its_last_row(start: Start) -> None:
    def lingering(task: Task, listener: Listener, end: threading.Event) -> Outcome:
        all_rows(task, listener, end)
        end.wait(0.5)  # several heartbeats find that the table has no such unit any more
        return Done()

    executor = Threads(1, lingering=lingering)
    table, _ = start(executor, lease_seconds=0.3)
    submit(table, "lingering", 2)
    submit(table, "fine", 1)
    ended(table, "lingering", "fine")
    assert executor.cancelled == []


def test_the_end_puts_units_back(start: Start) -> None:
    executor = Threads(2, endless=until_cancelled)
    table, dispatcher = start(executor)
    submit(table, "endless", 2, 1, 1)
    while len(executor.began) < 2:
        time.sleep(0.01)
    begun = time.monotonic()
    dispatcher.stop()
    dispatcher.stop()
    assert time.monotonic() - begun < 1
    assert not dispatcher.ready()
    job = table.get("endless")
    assert job is not None
    assert (job.state, job.losses) == (State.RUNNING, 0)
    counts = table.counts()
    assert (counts["units_waiting"], counts["units_running"]) == (3, 0)
    assert executor.began == ["endless"] * 2


def test_processes_give_the_results_of_the_library(start: Start, tmp_path: Path) -> None:
    executor = LocalExecutor(1, home=tmp_path, blobs=tmp_path, task_seconds=60)
    table, dispatcher = start(executor)
    requests = {
        f"job{i}": EstimateRequest.model_validate(
            {
                "dataset": {"kind": "digits", "n": 20},
                "labellings": [{"kind": "random", "seed": 10 * i + j} for j in range(3)],
                "estimator": {"kind": "ep"},
            }
        )
        for i in range(3)
    }
    for name, request in requests.items():
        table.submit(name, "estimates", request.model_dump(mode="json"), plan(2, 1))
    runner = RequestRunner(KernelCache(tmp_path / "other", 10**9))
    for job in ended(table, *requests, within=60):
        assert (job.state, job.losses) == (State.SUCCESSFUL, 0)
        expected = dict(runner.estimates(requests[job.id]))
        for row, result in table.results(job.id):
            assert result["log_p"] == expected[row]["log_p"]
    dispatcher.stop()
    assert executor.pids() == []


def test_process_of_a_dismissed_job_dies(start: Start, tmp_path: Path) -> None:
    executor = make(tmp_path)
    table, dispatcher = start(executor)
    running = threading.Event()
    table.listen(lambda _: running.set() if table.get("hang").stage else None)  # pyright: ignore[reportOptionalMemberAccess]
    table.submit("hang", Misbehave.kind, {"rows": ["hang"]}, plan(1))
    assert running.wait(20)
    before = executor.pids()
    table.dismiss("hang")
    deadline = time.monotonic() + 5
    while executor.pids() == before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert executor.pids() != before
    dispatcher.stop()
    assert executor.pids() == []
