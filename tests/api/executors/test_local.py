"""Tasks in real child processes: rows, progress, errors."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from api.executors.base import Cancelled, Done, Failed, PutBack, Task
from api.executors.local import LocalExecutor
from nngp_prior.kernels import KernelCache
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.schemas.requests import EstimateRequest
from tests.api.apps import npy, sha256
from tests.api.executors.tasks import Heard, fences, in_thread, make, odd, works

ESTIMATES = {
    "dataset": {"kind": "digits", "n": 20},
    "labellings": [{"kind": "parity"}, {"kind": "explicit", "values": [1]}, {"kind": "random"}],
    "estimator": {"kind": "smc", "replicates": 4},
}


def without_time(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "seconds"}


def test_rows_are_what_the_library_computes_in_process(computing: LocalExecutor, tmp_path: Path) -> None:
    heard = Heard()
    assert computing.run(Task(next(fences), "estimates", ESTIMATES, (0, 1, 2), 1), heard) == Done()
    expected = dict(RequestRunner(KernelCache(tmp_path, 10**9)).estimates(EstimateRequest.model_validate(ESTIMATES)))
    assert {place: without_time(row) for place, row in heard.results.items()} == {
        place: without_time(row) for place, row in expected.items()
    }
    assert heard.results[1]["status"] == "invalid-labels"
    assert heard.stages[0][0] == "kernel tiles"


def test_samples_are_drawn_and_leave_nothing(computing: LocalExecutor, home: Path) -> None:
    heard = Heard()
    request = {"dataset": {"kind": "boolean", "bits": 3}, "networks": 2000, "source": "gp"}
    assert computing.run(Task(next(fences), "samples", request, (0,), 0), heard) == Done()
    assert heard.results[0]["draws"] == 2000
    assert heard.stages[0][0] == "gp"
    assert list((home / "samples").iterdir()) == []  # where what is cut off goes on from


def test_some_rows_on_uploaded_arrays(computing: LocalExecutor, home: Path) -> None:
    content = npy(np.where(np.random.default_rng(0).random((4, 20)) < 0.5, -1, 1).astype(np.int8))
    sha = sha256(content)
    path = home / "blobs" / sha[:2] / f"{sha}.npy"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    request = {**ESTIMATES, "labellings": [{"kind": "blob", "sha256": sha}], "estimator": {"kind": "ep"}}
    heard = Heard()
    assert computing.run(Task(next(fences), "estimates", request, (3, 1), 1), heard) == Done()
    assert sorted(heard.results) == [1, 3]
    missing = {**request, "labellings": [{"kind": "blob", "sha256": "c" * 64}]}
    outcome = computing.run(Task(next(fences), "estimates", missing, (0,), 1), Heard())
    assert isinstance(outcome, Failed)
    assert "no uploaded array ccc" in outcome.problem["detail"]
    other = np.ones(20, np.int8)  # so many that the worker keeps none of those before
    more = [npy(other * sign) for sign in (1, -1)]
    for each in more:
        place = home / "blobs" / sha256(each)[:2] / f"{sha256(each)}.npy"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(each)
        asked = {**request, "labellings": [{"kind": "blob", "sha256": sha256(each)}]}
        assert computing.run(Task(next(fences), "estimates", asked, (0,), 1), Heard()) == Done()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 254]))  # the last label is the other one
    outcome = computing.run(Task(next(fences), "estimates", request, (3,), 1), Heard())
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


def test_a_full_disk_is_not_the_tasks_fault(executor: LocalExecutor) -> None:
    outcome = executor.run(odd("full disk"), Heard())
    assert isinstance(outcome, PutBack)
    assert "no space left" in outcome.reason


def test_an_exception_of_the_listener_comes_out_and_leaves_the_slot_intact(executor: LocalExecutor) -> None:
    def fail() -> None:
        raise OSError("the listener's own")

    before = executor.pids()
    with pytest.raises(OSError, match="the listener's own"):
        executor.run(odd("fine", "sleep"), Heard(fail))
    assert executor.pids() != before
    assert works(executor)


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
