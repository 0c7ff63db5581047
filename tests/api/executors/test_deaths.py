"""Child processes that crash, hang, are killed, or take too much time or memory."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from api.executors import local
from api.executors.base import Cancelled, Done, Failed, Lost, PutBack, Task
from api.executors.local import LocalExecutor
from api.executors.memory import WORKER_BYTES, Usage, to_be_ended
from tests.api.executors.tasks import Heard, fences, gone, in_thread, make, odd, works
from tests.system.server import wait_for


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("abort", "SIGABRT"),
        ("exit", "status 3"),
        ("memory", "no memory"),
        ("memory of jax", "no memory"),
    ],
)
def test_a_row_that_crashes_its_process_loses_the_task_but_no_row_before_it(
    executor: LocalExecutor, deed: str, reason: str
) -> None:
    heard = Heard()
    outcome = executor.run(odd("fine", deed, "fine"), heard)
    assert isinstance(outcome, Lost)
    assert reason in outcome.reason
    assert sorted(heard.results) == [0]
    assert works(executor)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (signal.SIGKILL, Lost("the worker was ended by SIGKILL")),
        # As systemd asks all processes of a service that it stops, the server among them: nothing is lost.
        (signal.SIGTERM, PutBack("a worker was ended by SIGTERM")),
    ],
)
def test_a_child_that_is_ended_by_a_signal_and_the_next_one_works(
    executor: LocalExecutor, sent: signal.Signals, expected: Lost | PutBack
) -> None:
    heard = Heard()
    outcome = in_thread(executor, odd("sleep"), heard)
    assert heard.begun.wait(20)
    os.kill(executor.pids()[0], sent)
    assert outcome() == expected
    assert works(executor)


def test_memory_is_bounded_whatever_was_planned(home: Path) -> None:
    """The one that takes more than was planned is ended with a remedy; the work of the other slot goes on."""
    limit = 2 * WORKER_BYTES + 2**28
    executor = make(home, slots=2, memory_limit=limit)
    try:
        heard = Heard()
        other = in_thread(executor, odd(*["nap"] * 6), heard)
        assert heard.begun.wait(20)
        before = Heard()
        lost = executor.run(replace(odd("fine", "gobble", "fine"), bytes=2**20), before)
        assert isinstance(lost, Lost)
        assert lost.status == "memory-limit"
        assert all(part in lost.reason for part in (f"{limit / 2**30:.2f} GiB", "NNGP_MEMORY_LIMIT", "fewer inputs"))
        assert list(before.results) == [0]
        assert other() == Done()
        assert len(heard.results) == 6
        assert executor.run(odd("fine"), Heard()) == Done()
    finally:
        executor.close()


def test_who_has_to_end_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is idle first, then who took most beyond its plan; nobody while there is room."""
    resident = {1: 10**9, 2: 3 * 10**9, 3: 2 * 10**9, 4: 10**8}
    monkeypatch.setattr(Usage, "look", lambda self: setattr(self, "resident", resident[self.pid]))
    kept, large, small, new = Usage(1), Usage(2, planned=4 * 10**9), Usage(3, planned=10**9), Usage(4)
    everybody = [new, kept, large, small]
    assert to_be_ended(everybody, 7 * 10**9) is None
    assert to_be_ended(everybody, 6 * 10**9) is kept
    assert to_be_ended([new, large, small], 5 * 10**9) is small
    assert to_be_ended([new, large], 3 * 10**9) is large
    assert large.excess < 0 < small.excess


def test_a_child_that_is_killed_while_idle_is_nobodys_loss(executor: LocalExecutor) -> None:
    assert works(executor)
    os.kill(executor.pids()[0], signal.SIGKILL)
    deadline = time.monotonic() + 2
    while not executor._idle[0].has_died() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert works(executor)


@pytest.mark.parametrize("task", [odd("defect"), odd("leave")], ids=["defect", "exit"])
def test_a_defect_fails_the_task_and_gets_a_fresh_child(executor: LocalExecutor, task: Task) -> None:
    before = executor.pids()
    outcome = executor.run(task, Heard())
    assert isinstance(outcome, Failed)
    assert (outcome.problem["code"], outcome.problem["status"]) == ("internal-error", 500)
    assert "a bug" in outcome.traceback
    assert "a bug" not in outcome.problem["detail"]
    assert executor.pids() != before


def test_a_task_of_an_unknown_kind_is_a_defect(executor: LocalExecutor) -> None:
    with capture_logs():
        unknown = executor.run(Task(next(fences), "no such kind", {}, (0,), 1), Heard())
    assert isinstance(unknown, Failed)
    assert "KeyError" in unknown.traceback
    assert works(executor)


@pytest.mark.parametrize("deed", ["stop", "hang"])
def test_a_hung_child_is_noticed_and_dead_at_once_when_its_task_is_cancelled(
    executor: LocalExecutor, monkeypatch: pytest.MonkeyPatch, deed: str
) -> None:
    monkeypatch.setattr(local, "_IDLE_SECONDS", 0.5)
    heard, task = Heard(), odd(deed)
    outcome = in_thread(executor, task, heard)
    assert heard.begun.wait(20)
    assert "no processor time" in wait_for(executor.problem, 10)
    pid = executor.pids()[0]
    executor.cancel(task.fence)
    assert outcome() == Cancelled()
    assert not psutil.pid_exists(pid)
    assert executor.problem() is None
    executor.cancel(task.fence)  # nothing happens
    assert works(executor)


def test_a_child_that_works_does_not_hang(executor: LocalExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_IDLE_SECONDS", 0.5)
    heard, task = Heard(), odd("work")
    outcome = in_thread(executor, task, heard)
    assert heard.begun.wait(20)
    seen = [executor.hung() for _ in range(8) if time.sleep(0.1) is None]
    executor.cancel(task.fence)
    assert outcome() == Cancelled()
    assert seen.count(True) <= 3  # of a busy machine


def test_a_task_that_takes_too_long_fails(home: Path) -> None:
    executor = make(home, task_seconds=0.3)
    heard = Heard()
    outcome = executor.run(odd("fine", "hang"), heard)
    assert isinstance(outcome, Failed)
    assert (outcome.problem["status"], outcome.problem["code"]) == (422, "time-limit")
    assert "NNGP_TASK_SECONDS" in outcome.problem["detail"]
    assert sorted(heard.results) == [0]
    executor.close()


def test_what_a_child_has_started_goes_with_it(executor: LocalExecutor, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    assert isinstance(executor.run(odd("grandchild", path=str(path)), Heard()), Lost)
    assert gone(int(path.read_text()), within=2)


def test_a_child_that_cannot_start_puts_the_task_back(home: Path) -> None:
    executor = LocalExecutor(1, home=home, blobs=home, task_seconds=9, module="no_such_module")
    for _ in range(2):
        outcome = executor.run(odd("fine"), Heard())
        assert isinstance(outcome, PutBack)
        assert "ended with status 1 as it started" in outcome.reason
    executor.close()


SERVER = """
import sys, threading, time
from pathlib import Path
from tests.api.executors.tasks import Heard, in_thread, make, odd
executor = make(Path(sys.argv[1]), slots=3)
heard = [Heard(), Heard()]
for listener, deed in zip(heard, ("sleep", "hang")):
    in_thread(executor, odd(deed), listener)
for listener in heard:
    listener.begun.wait()
print(*executor.pids(), flush=True)
time.sleep(600)
"""


def test_a_server_that_is_killed_takes_its_children_along(tmp_path: Path) -> None:
    """One is idle, one computes, one is in C code that keeps all other threads of its process from running."""
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    pids = [int(pid) for pid in server.stdout.readline().split()]
    assert len(pids) == 3
    assert not any(gone(pid, within=0.05) for pid in pids)
    server.kill()
    server.wait()
    server.stdout.close()
    assert all(gone(pid, within=2) for pid in pids)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fifty_children_leave_nothing_behind(executor: LocalExecutor) -> None:
    assert works(executor)
    before, children = len(os.listdir("/proc/self/fd")), len(psutil.Process().children())
    for _ in range(50):
        assert isinstance(executor.run(odd("abort"), Heard()), Lost)
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(psutil.Process().children()) == children
    assert threading.active_count() < 5
