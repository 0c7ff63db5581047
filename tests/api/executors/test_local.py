"""Tasks in real child processes that compute, crash, hang, and are killed."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from structlog.testing import capture_logs

from api.executors import local
from api.executors.base import Cancelled, Done, Failed, Lost, Outcome, PutBack, Task
from api.executors.local import LocalExecutor
from api.executors.memory import WORKER_BYTES, Usage, to_be_ended
from nngp_prior.kernels import KernelCache
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.schemas.requests import EstimateRequest
from tests.api.apps import npy, sha256
from tests.system.server import wait_for

ODD = "tests.api.executors.odd_child"
ESTIMATES = {
    "dataset": {"kind": "digits", "n": 20},
    "labellings": [{"kind": "parity"}, {"kind": "explicit", "values": [1]}, {"kind": "random"}],
    "estimator": {"kind": "smc", "replicates": 4},
}


class Heard:
    """A listener that writes down what it hears."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.calls: list[list[tuple[int, dict[str, Any]]]] = []
        self.stages: list[tuple[str, int, int]] = []
        self.begun = threading.Event()
        self._then = then

    @property
    def results(self) -> dict[int, dict[str, Any]]:
        return {place: result for call in self.calls for place, result in call}

    def rows(self, rows: list[tuple[int, dict[str, Any]]]) -> None:
        self.calls.append(rows)
        self._then()

    def progress(self, stage: str, done: int, total: int) -> None:
        self.stages.append((stage, done, total))
        self.begun.set()


fences = iter(range(10**9))


def odd(*rows: str, cores: int = 1, path: str = "") -> Task:
    return Task(next(fences), "odd", {"rows": rows, "path": path}, tuple(range(len(rows))), cores)


def make(folder: Path, slots: int = 1, task_seconds: float = 60.0, **options: Any) -> LocalExecutor:
    return LocalExecutor(slots, home=folder, blobs=folder / "blobs", task_seconds=task_seconds, module=ODD, **options)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def executor(home: Path) -> Iterator[LocalExecutor]:
    executor = make(home)
    yield executor
    executor.close()


def in_thread(executor: LocalExecutor, task: Task, heard: Heard) -> Callable[[], Outcome]:
    """Start a task; what is returned waits for its outcome."""
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(executor.run(task, heard)))
    thread.start()

    def outcome() -> Outcome:
        thread.join(30)
        return outcomes[0]

    return outcome


def without_time(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "seconds"}


def works(executor: LocalExecutor) -> bool:
    return executor.run(odd("fine"), Heard()) == Done()


def test_rows_are_what_the_library_computes_in_process(executor: LocalExecutor, tmp_path: Path) -> None:
    heard = Heard()
    assert executor.run(Task(next(fences), "estimates", ESTIMATES, (0, 1, 2), 1), heard) == Done()
    expected = dict(RequestRunner(KernelCache(tmp_path, 10**9)).estimates(EstimateRequest.model_validate(ESTIMATES)))
    assert {place: without_time(row) for place, row in heard.results.items()} == {
        place: without_time(row) for place, row in expected.items()
    }
    assert heard.results[1]["status"] == "invalid-labels"
    assert heard.stages[0][0] == "kernel tiles"


def test_samples_are_drawn_and_leave_nothing(executor: LocalExecutor, home: Path) -> None:
    heard = Heard()
    request = {"dataset": {"kind": "boolean", "bits": 3}, "networks": 2000, "source": "gp"}
    assert executor.run(Task(next(fences), "samples", request, (0,), 0), heard) == Done()
    assert heard.results[0]["draws"] == 2000
    assert heard.stages[0][0] == "gp"
    assert list((home / "samples").iterdir()) == []  # where what is cut off goes on from


def test_some_rows_on_uploaded_arrays(executor: LocalExecutor, home: Path) -> None:
    content = npy(np.where(np.random.default_rng(0).random((4, 20)) < 0.5, -1, 1).astype(np.int8))
    sha = sha256(content)
    path = home / "blobs" / sha[:2] / f"{sha}.npy"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    request = {**ESTIMATES, "labellings": [{"kind": "blob", "sha256": sha}], "estimator": {"kind": "ep"}}
    heard = Heard()
    assert executor.run(Task(next(fences), "estimates", request, (3, 1), 1), heard) == Done()
    assert sorted(heard.results) == [1, 3]
    missing = {**request, "labellings": [{"kind": "blob", "sha256": "c" * 64}]}
    outcome = executor.run(Task(next(fences), "estimates", missing, (0,), 1), Heard())
    assert isinstance(outcome, Failed)
    assert "no uploaded array ccc" in outcome.problem["detail"]
    other = np.ones(20, np.int8)  # so many that the worker keeps none of those before
    more = [npy(other * sign) for sign in (1, -1)]
    for each in more:
        place = home / "blobs" / sha256(each)[:2] / f"{sha256(each)}.npy"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(each)
        asked = {**request, "labellings": [{"kind": "blob", "sha256": sha256(each)}]}
        assert executor.run(Task(next(fences), "estimates", asked, (0,), 1), Heard()) == Done()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 254]))  # the last label is the other one
    outcome = executor.run(Task(next(fences), "estimates", request, (3,), 1), Heard())
    assert isinstance(outcome, Failed)
    assert (outcome.problem["code"], "is damaged" in outcome.problem["detail"]) == ("data-unavailable", True)


def test_a_child_serves_many_tasks_below_the_servers_priority_with_the_cores_it_is_given(
    executor: LocalExecutor,
) -> None:
    heard = [Heard(), Heard(), Heard()]
    for listener, cores in zip(heard, (1, 0, 1), strict=True):
        assert executor.run(odd("fine", cores=cores), listener) == Done()
    first, every, again = (listener.results[0] for listener in heard)
    assert first["pid"] == every["pid"] == again["pid"] == executor.pids()[0]
    assert first["cores"] == again["cores"] == 1
    assert every["cores"] == len(os.sched_getaffinity(0))
    assert first["nice"] == min(os.getpriority(os.PRIO_PROCESS, 0) + 5, 19)


def test_what_is_printed_is_no_message_and_nothing_can_be_read(executor: LocalExecutor, capfd) -> None:
    heard = Heard()
    assert executor.run(odd("print", "fine"), heard) == Done()
    assert heard.results[0]["row"] == 0


def test_quick_rows_come_together_slow_ones_at_once(executor: LocalExecutor) -> None:
    heard = Heard()
    assert executor.run(odd(*["fine"] * 300), heard) == Done()
    assert sorted(heard.results) == list(range(300))
    assert len(heard.calls) < 10
    heard = Heard()
    task = odd("fine", "fine", "sleep")
    outcome = in_thread(executor, task, heard)
    deadline = time.monotonic() + 10
    while len(heard.results) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(heard.results) == [0, 1]  # the second one, too, though nothing comes after it
    executor.cancel(task.fence)
    assert outcome() == Cancelled()


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("abort", "SIGABRT"),
        ("segfault", "SIGSEGV"),
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


def test_a_child_that_is_killed_loses_its_task_and_the_next_one_works(executor: LocalExecutor) -> None:
    heard = Heard()
    outcome = in_thread(executor, odd("sleep"), heard)
    assert heard.begun.wait(20)
    os.kill(executor.pids()[0], signal.SIGKILL)
    assert outcome() == Lost("the worker was ended by SIGKILL")
    assert works(executor)


def test_memory_is_bounded_whatever_was_planned(home: Path) -> None:
    """The one that takes more than was planned is ended with a remedy; the work of the other slot goes on."""
    limit = 2 * WORKER_BYTES + 2**28
    executor = make(home, slots=2, memory_limit=limit)
    try:
        heard = Heard()
        other = in_thread(executor, odd(*["nap"] * 12), heard)
        assert heard.begun.wait(20)
        before = Heard()
        lost = executor.run(replace(odd("fine", "gobble", "fine"), bytes=2**20), before)
        assert isinstance(lost, Lost)
        assert lost.status == "memory-limit"
        assert all(part in lost.reason for part in (f"{limit / 2**30:.2f} GiB", "NNGP_MEMORY_LIMIT", "fewer inputs"))
        assert list(before.results) == [0]
        assert other() == Done()
        assert len(heard.results) == 12
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


def test_a_child_that_is_asked_to_end_has_lost_nothing(executor: LocalExecutor) -> None:
    """As systemd asks all processes of a service that it stops, the server among them."""
    heard = Heard()
    outcome = in_thread(executor, odd("sleep"), heard)
    assert heard.begun.wait(20)
    os.kill(executor.pids()[0], signal.SIGTERM)
    assert outcome() == PutBack("a worker was ended by SIGTERM")


def test_a_child_that_is_killed_while_idle_is_nobodys_loss(executor: LocalExecutor) -> None:
    assert works(executor)
    os.kill(executor.pids()[0], signal.SIGKILL)
    deadline = time.monotonic() + 2
    while not executor._idle[0].has_died() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert works(executor)


@pytest.mark.parametrize(
    ("deed", "code", "field"),
    [
        ("invalid", "invalid-request", "dataset.n"),
        ("missing", "data-unavailable", None),
        ("large", "kernel-too-large", None),
    ],
)
def test_an_error_of_the_library_fails_the_task(
    executor: LocalExecutor, deed: str, code: str, field: str | None
) -> None:
    before = executor.pids()
    heard = Heard()
    outcome = executor.run(odd("fine", deed), heard)
    assert isinstance(outcome, Failed)
    assert (outcome.problem["code"], outcome.problem["status"]) == (code, 422)
    assert [error["location"] for error in outcome.problem["errors"]] == ([field] if field else [])
    assert sorted(heard.results) == [0]
    assert executor.pids() == before


@pytest.mark.parametrize("deed", ["defect", "leave"])
def test_a_defect_fails_the_task_and_gets_a_fresh_child(executor: LocalExecutor, deed: str) -> None:
    before = executor.pids()
    outcome = executor.run(odd(deed), Heard())
    assert isinstance(outcome, Failed)
    assert (outcome.problem["code"], outcome.problem["status"]) == ("internal-error", 500)
    assert "a bug" in outcome.traceback
    assert "a bug" not in outcome.problem["detail"]
    assert executor.pids() != before
    with capture_logs():
        unknown = executor.run(Task(next(fences), "no such kind", {}, (0,), 1), Heard())
    assert isinstance(unknown, Failed)
    assert works(executor)


def test_a_full_disk_is_not_the_tasks_fault(executor: LocalExecutor) -> None:
    outcome = executor.run(odd("full disk"), Heard())
    assert isinstance(outcome, PutBack)
    assert "no space left" in outcome.reason


@pytest.mark.parametrize("deed", ["sleep", "hang", "stop"])
def test_a_cancelled_task_is_dead_at_once(executor: LocalExecutor, deed: str) -> None:
    heard, task = Heard(), odd(deed)
    outcome = in_thread(executor, task, heard)
    assert heard.begun.wait(20)
    pid, begun = executor.pids()[0], time.monotonic()
    executor.cancel(task.fence)
    assert outcome() == Cancelled()
    assert not psutil.pid_exists(pid)
    assert time.monotonic() - begun < 2
    executor.cancel(task.fence)  # nothing happens
    assert works(executor)


@pytest.mark.parametrize("deed", ["stop", "hang"])
def test_a_child_that_hangs_is_noticed(executor: LocalExecutor, monkeypatch: pytest.MonkeyPatch, deed: str) -> None:
    monkeypatch.setattr(local, "_IDLE_SECONDS", 0.5)
    heard, task = Heard(), odd(deed)
    outcome = in_thread(executor, task, heard)
    assert heard.begun.wait(20)
    wait_for(executor.hung, 10)
    executor.cancel(task.fence)
    assert outcome() == Cancelled()
    assert not executor.hung()


def test_a_child_that_works_does_not_hang(executor: LocalExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_IDLE_SECONDS", 0.5)
    heard, task = Heard(), odd("work")
    outcome = in_thread(executor, task, heard)
    assert heard.begun.wait(20)
    seen = [executor.hung() for _ in range(15) if time.sleep(0.1) is None]
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


def test_an_exception_of_the_listener_comes_out_and_leaves_the_slot_intact(executor: LocalExecutor) -> None:
    def fail() -> None:
        raise OSError("the listener's own")

    before = executor.pids()
    with pytest.raises(OSError, match="the listener's own"):
        executor.run(odd("fine", "sleep"), Heard(fail))
    assert executor.pids() != before
    assert works(executor)


def test_what_a_child_has_started_goes_with_it(executor: LocalExecutor, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    assert isinstance(executor.run(odd("grandchild", path=str(path)), Heard()), Lost)
    assert gone(int(path.read_text()), within=2)


def test_slots_run_side_by_side_and_closing_leaves_no_process_and_no_descriptor(home: Path) -> None:
    descriptors, children = len(os.listdir("/proc/self/fd")), set(psutil.Process().children())
    executor = make(home, slots=2)
    heard = [Heard(), Heard()]
    outcomes = [in_thread(executor, odd("sleep"), listener) for listener in heard]
    assert all(listener.begun.wait(20) for listener in heard)
    pids = executor.pids()
    assert len(set(pids)) == 2
    executor.close()
    assert [outcome() for outcome in outcomes] == [Cancelled(), Cancelled()]
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert set(psutil.Process().children()) == children  # zombies would be among them
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert executor.run(odd("fine"), Heard()) == Cancelled()


def test_a_child_that_cannot_start_puts_the_task_back(home: Path) -> None:
    executor = LocalExecutor(1, home=home, blobs=home, task_seconds=9, module="no_such_module")
    for _ in range(2):
        outcome = executor.run(odd("fine"), Heard())
        assert isinstance(outcome, PutBack)
        assert "ended with status 1 as it started" in outcome.reason
    executor.close()


def gone(pid: int, within: float) -> bool:
    """Whether a process ends; one that nobody waits for is as good as gone."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.02)
                continue
        return True
    return False


SERVER = """
import sys, threading, time
from pathlib import Path
from tests.api.executors.test_local import Heard, in_thread, make, odd
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
