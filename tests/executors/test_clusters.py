"""Dask's and Parsl's executors, with real schedulers and workers: same results, same errors, deaths of processes."""

import signal
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nngp_prior import FromNetwork, MonteCarlo, monte_carlo_kernel
from nngp_prior.errors import InvalidKernel, ResourceLimit
from nngp_prior.executors import task_runner
from nngp_prior.experiments import run
from nngp_prior.experiments.report import write_report
from nngp_prior.schemas.protocols import Protocol
from tests.executors.cases import CALLS, die, inputs, refuse, wait_for
from tests.executors.clusters import DaskCluster, dask_cluster, parsl_executor
from tests.experiments.cases import TINY, files

# Parsl starts its processes by a fork that is followed by another program, of which JAX warns.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork")


def run_all(executor: Executor, work: Callable[..., Any], *tasks: Any) -> list[Any]:
    with task_runner(executor) as runner:
        return [result for _, result in sorted(runner.run(work, tasks))]


def assert_errors_are_those_of_tasks(executor: Executor) -> None:
    with pytest.raises(InvalidKernel) as raised:
        run_all(executor, refuse, (), ())
    assert (raised.value.field, raised.value.problem, raised.value.remedy) == (
        "K",
        "is no covariance",
        "Pass another.",
    )


def closures() -> FromNetwork:
    """A network whose functions are not those of a module."""
    return FromNetwork(lambda key, shape: ((1, 1), ()), lambda parameters, X: X[:, :1] + 1, name="first")


def test_calls_on_dask(dask: DaskCluster, folder: Path) -> None:
    executor = dask.client.get_executor(pure=False)
    assert CALLS["log_probabilities"](executor, None) == CALLS["log_probabilities"](None, None)
    own, few = closures(), MonteCarlo(networks=2, batches=2)
    found = monte_carlo_kernel(own, inputs(3), few, executor=executor)
    assert np.array_equal(found.K, monte_carlo_kernel(own, inputs(3), few).K)
    assert_errors_are_those_of_tasks(executor)
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_study_on_dask_has_the_rows_and_the_report_of_one_process(dask: DaskCluster, tmp_path: Path) -> None:
    executor, folder = dask.client.get_executor(pure=False), tmp_path
    protocol = Protocol.model_validate({**TINY, "quantities": ["fisher-trace"]})
    for name, by in (("alone", None), ("dask", executor)):
        write_report(run(protocol, folder / name, executor=by))
    assert files(folder / "dask") == files(folder / "alone")
    assert {"rows.jsonl", "results.csv", "report.html", "report.md"} <= set(files(folder / "dask"))


@pytest.mark.slow
def test_calls_on_parsl(parsl: Executor, folder: Path) -> None:
    assert CALLS["monte_carlo_kernel"](parsl, None) == CALLS["monte_carlo_kernel"](None, None)
    assert_errors_are_those_of_tasks(parsl)
    assert list(folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_all_calls_on_clusters(dask: DaskCluster, parsl: Executor, name: str) -> None:
    alone = CALLS[name](None, None)
    assert CALLS[name](dask.client.get_executor(pure=False), None) == alone
    assert CALLS[name](dask.client.get_executor(), None) == alone
    assert CALLS[name](parsl, None) == alone


@pytest.mark.slow
def test_workers_of_dask_that_die(tmp_path: Path, folder: Path) -> None:
    with dask_cluster(beside(tmp_path), workers=2) as cluster:
        executor = cluster.client.get_executor(pure=False)
        with pytest.raises(ResourceLimit, match="fewer workers"):
            run_all(executor, die, ())
        assert run_all(executor, abs, (-1,), (-2,)) == [1, 2]


@pytest.mark.slow
def test_the_scheduler_of_dask_is_killed(tmp_path: Path, folder: Path) -> None:
    """The client waits for it, and then cancels its futures."""
    import dask.config

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "2s"}),
        dask_cluster(beside(tmp_path)) as cluster,
        ThreadPoolExecutor(1) as threads,
    ):
        executor = cluster.client.get_executor(pure=False)
        call = threads.submit(run_all, executor, wait_for, (str(tmp_path / "never"),))
        while not any(each.startswith("nngp-prior-") for each in map(_name, folder.iterdir())):
            time.sleep(0.05)
        cluster.scheduler.send_signal(signal.SIGKILL)
        with pytest.raises(ResourceLimit, match=r"lost its scheduler|fewer workers"):
            call.result(timeout=100)


@pytest.mark.slow
def test_a_call_on_dask_that_ends_early(dask: DaskCluster, tmp_path: Path, folder: Path) -> None:
    executor, never = dask.client.get_executor(pure=False), tmp_path / "later"
    with task_runner(executor) as runner:
        results = runner.run(wait_for, [(__file__,), (str(never),), (str(never),)])
        assert next(results) == (0, __file__)
        results.close()  # pyright: ignore[reportAttributeAccessIssue]
    never.touch()  # the running task is not interrupted
    assert executor.submit(abs, -1).result(timeout=60) == 1


@pytest.mark.slow
def test_workers_of_parsl_that_die(tmp_path: Path, folder: Path) -> None:
    with parsl_executor(beside(tmp_path)) as executor:
        with pytest.raises(ResourceLimit, match="fewer workers"):
            run_all(executor, die, ())
        assert run_all(executor, abs, (-1,), (-2,)) == [1, 2]


def beside(tmp_path: Path) -> Path:
    """Return a folder for the files of a cluster, beside that of shared arrays."""
    folder = tmp_path.parent / f"{tmp_path.name}-cluster"
    folder.mkdir()
    return folder


def _name(path: Path) -> str:
    return path.name
