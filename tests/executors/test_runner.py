"""Tasks of a call: arrays in files, errors, workers that die, calls that end early."""

import multiprocessing
from concurrent.futures import BrokenExecutor, CancelledError, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from distributed import KilledWorker
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

from nngp_prior import kernel, log_probabilities, monte_carlo_kernel, sample_functions
from nngp_prior.errors import InvalidInput, InvalidKernel, ResourceLimit
from nngp_prior.executors import SharedArray, blocks, checked_executor, task_runner
from nngp_prior.experiments import run
from nngp_prior.sharpness import measure_networks, train
from tests.executors.cases import ARCHITECTURE, Failing, Serial, covariance, die, inputs, labels, refuse

_WORKER: Any = SimpleNamespace(address="tcp://127.0.0.1:1")  # as far as the message of Dask's exception needs it
SPAWN = multiprocessing.get_context("spawn")


def double(array: SharedArray) -> np.ndarray:
    return 2 * array.load()


def test_arrays_outlive_their_files(folder: Path) -> None:
    """Files on NFS that are removed while another machine maps them end its processes."""
    with task_runner(Serial()) as runner:
        array = runner.share(np.arange(12.0).reshape(4, 3))
        whole, part = array.load(), array.rows(range(1, 3))
    assert (array.shape, whole.base, part.base) == ((4, 3), None, None)
    assert part.tolist() == whole[1:3].tolist() == [[3, 4, 5], [6, 7, 8]]


def test_equal_arrays_are_written_once(folder: Path) -> None:
    with task_runner(Serial()) as runner:
        first, second, other = (runner.share(A) for A in (np.eye(3), np.eye(3), np.eye(2)))
        assert first == second != other
        assert len(list(Path(first.path).parent.iterdir())) == 2
        assert [(place, A.tolist()) for place, A in runner.run(double, [(other,)])] == [(0, [[2, 0], [0, 2]])]
    assert list(folder.iterdir()) == []


def test_tasks_are_submitted_as_results_are_taken(folder: Path) -> None:
    executor = Serial()
    with task_runner(executor) as runner:
        results = runner.run(abs, [(-i,) for i in range(10)], ahead=3)
        assert next(results) == (0, 0)
        assert executor.submitted == 4
        assert sorted(results) == [(i, i) for i in range(1, 10)]


def test_items_are_divided_into_tasks() -> None:
    assert blocks(5, 10.0) == [range(i, i + 1) for i in range(5)]
    assert blocks(32, 1e-9) == [range(i, i + 2) for i in range(0, 32, 2)]
    assert blocks(3_000, 0.5)[-1] == range(2_996, 3_000)


@pytest.mark.parametrize(
    "error",
    [
        BrokenExecutor("killed"),
        KilledWorker("key", _WORKER, 1),
        ManagerLost(b"id", "host"),
        WorkerLost(1, "host"),
    ],
)
def test_a_worker_that_died(folder: Path, error: Exception) -> None:
    with task_runner(Failing(error)) as runner, pytest.raises(ResourceLimit, match="fewer workers"):
        list(runner.run(abs, [(1,)]))
    assert list(folder.iterdir()) == []


def test_a_scheduler_that_is_lost(folder: Path) -> None:
    with task_runner(Failing(CancelledError())) as runner, pytest.raises(ResourceLimit, match="lost its scheduler"):
        list(runner.run(abs, [(1,)]))


def test_processes_that_die_and_errors_of_processes(folder: Path) -> None:
    with ProcessPoolExecutor(1, SPAWN) as executor:
        with task_runner(executor) as runner, pytest.raises(InvalidKernel) as raised:
            list(runner.run(refuse, [()]))
        assert (raised.value.field, raised.value.remedy) == ("K", "Pass another.")
        with task_runner(executor) as runner, pytest.raises(InvalidInput, match="cannot receive the arguments"):
            list(runner.run(abs, [(lambda: 0,)]))
        for _ in range(2):  # the second time the executor refuses the task
            with task_runner(executor) as runner, pytest.raises(ResourceLimit, match="fewer workers"):
                list(runner.run(die, [(), ()]))
    assert list(folder.iterdir()) == []


class Uncancellable(Serial):
    """Executor that carries out its tasks later and cannot cancel them, as Parsl's."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[Any, ...]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        class Task(Future[Any]):
            def cancel(self) -> bool:
                raise NotImplementedError

        future = super().submit(fn, *args, **kwargs) if not self.waiting else Task()
        self.waiting.append((fn, *args))
        return future


def test_tasks_that_cannot_be_cancelled_end_when_they_begin(folder: Path) -> None:
    executor = Uncancellable()
    with task_runner(executor) as runner:
        results = runner.run(abs, [(-1,), (-2,), (-3,)])
        assert next(results) == (0, 1)
        results.close()  # pyright: ignore[reportAttributeAccessIssue]
    for fn, *arguments in executor.waiting[1:]:
        with pytest.raises(ResourceLimit, match="Set NNGP_SHARED"):
            fn(*arguments)


def test_a_closed_call_leaves_threads_free(folder: Path) -> None:
    with ThreadPoolExecutor(1) as executor, task_runner(executor) as runner:
        results = runner.run(abs, [(-i,) for i in range(100)])
        next(results)
        results.close()  # pyright: ignore[reportAttributeAccessIssue]
        assert executor.submit(int).result() == 0


def test_folders_that_are_not_shared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResourceLimit, match="Set NNGP_SHARED"):
        SharedArray("0" * 64, str(folder / "elsewhere.npy"), (3, 3)).load()
    monkeypatch.setenv("NNGP_SHARED", str(folder / "missing"))
    with pytest.raises(InvalidInput, match="NNGP_SHARED"):
        log_probabilities(covariance(), labels(12)[None], executor=Serial())


def test_what_is_no_executor_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"^executor: got str\. Pass a concurrent"):
        checked_executor("processes")  # pyright: ignore[reportArgumentType]


def test_forked_processes_are_refused(folder: Path) -> None:
    X, y, K = inputs(12), labels(12), covariance()
    executor = ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
    calls = [
        lambda: kernel(ARCHITECTURE, X, executor=executor),
        lambda: kernel(ARCHITECTURE, X, path=folder / "K.npy", executor=executor),
        lambda: monte_carlo_kernel(ARCHITECTURE, X, executor=executor),
        lambda: log_probabilities(K, y[None], executor=executor),
        lambda: log_probabilities(K, y[None], executor=executor, as_completed=True),
        lambda: sample_functions(ARCHITECTURE, X, 10, executor=executor),
        lambda: train(ARCHITECTURE, X, y, executor=executor),
        lambda: measure_networks(ARCHITECTURE, [], X, y, executor=executor),
        lambda: run("robust", folder / "study", executor=executor),
    ]
    for call in calls:
        with pytest.raises(InvalidInput, match=r"^executor: its processes are forked"):
            call()
    assert list(folder.iterdir()) == []
