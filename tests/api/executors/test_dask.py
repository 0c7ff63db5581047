"""Tasks on two real Dask workers, whose children misbehave."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dask.config
import psutil
import pytest

from api.executors import dask_messages
from api.executors.base import Cancelled, Done, Failed, Lost, PutBack, Task
from api.executors.create import executor_of
from api.executors.dask_executor import DaskExecutor
from api.executors.dask_messages import require_address
from api.files import store_id
from api.worker import WorkerSettings
from nngp_prior.errors import InvalidInput, MissingExtra
from tests.api.apps import settings
from tests.api.executors.tasks import Heard, fences, gone, in_thread, odd
from tests.system.cluster import Cluster
from tests.system.server import wait_for

MEMORY = 2**32


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), worker="tests.api.executors.odd_worker")
    cluster.scheduler.start()
    for _ in range(2):
        cluster.add_worker(memory_limit=MEMORY)
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def executor(cluster: Cluster) -> Iterator[DaskExecutor]:
    executor = DaskExecutor(cluster.address, task_seconds=60, folder=store_id(cluster.folder))
    has_slots(executor, cluster, 2)
    yield executor
    executor.close()


def has_slots(executor: DaskExecutor, cluster: Cluster, count: int) -> None:
    wait_for(lambda: executor.capacity().slots == count, 30, lambda: cluster.logs() + cluster.scheduler.log()[-3000:])


def worker_of(cluster: Cluster, pid: int) -> int:
    """The index of the worker that has a child."""
    return next(i for i, worker in enumerate(cluster.workers) if pid in [child.pid for child in worker.children()])


def running(executor: DaskExecutor, *rows: str):
    """A task that has computed its first row: what was heard of it, the process of its worker, and its outcome."""
    heard, task = Heard(), odd("fine", *rows)
    outcome = in_thread(executor, task, heard)
    wait_for(lambda: heard.results, 20)
    return task, heard.results[0]["pid"], outcome


def test_capacity_is_that_of_the_workers(executor: DaskExecutor) -> None:
    capacity = executor.capacity()
    here = len(os.sched_getaffinity(0))
    assert (capacity.slots, capacity.cores, capacity.task_cores) == (2, 2 * here, here)
    assert capacity.bytes == 2 * capacity.task_bytes
    assert 0 < capacity.task_bytes < MEMORY
    assert capacity.may_grow
    assert executor.problem() is None


def test_tasks_end_as_on_this_machine(executor: DaskExecutor) -> None:
    heard = Heard()
    assert executor.run(odd("fine", "fine"), heard) == Done()
    assert sorted(heard.results) == [0, 1]
    assert heard.stages[0] == ("odd rows", 1, 2)
    heard = Heard()
    assert executor.run(odd("fine", "abort", "fine"), heard) == Lost("the worker was ended by SIGABRT")
    assert sorted(heard.results) == [0]
    failed = executor.run(odd("invalid"), Heard())
    assert isinstance(failed, Failed)
    assert failed.problem["errors"][0]["location"] == "dataset.n"
    assert isinstance(executor.run(odd("full disk"), Heard()), PutBack)


def test_dismissed_task_and_what_it_started_are_dead_at_once(executor: DaskExecutor) -> None:
    """Its rows were there while it ran."""
    task, pid, outcome = running(executor, "hang")
    executor.cancel(task.fence)
    assert outcome() == Cancelled()
    assert gone(pid, within=5)
    assert executor.run(odd("fine"), Heard()) == Done()
    executor.cancel(task.fence)  # nothing happens


def test_units_of_a_service_that_ends_are_dead_at_once(cluster: Cluster) -> None:
    other = DaskExecutor(cluster.address, task_seconds=60)
    has_slots(other, cluster, 2)
    _, pid, outcome = running(other, "hang")
    other.close()
    assert outcome() == Cancelled()
    assert gone(pid, within=5)
    assert other.run(odd("fine"), Heard()) == Cancelled()
    assert other.capacity().slots == 0


def test_time_limit_is_the_services(cluster: Cluster) -> None:
    other = DaskExecutor(cluster.address, task_seconds=0.3)
    has_slots(other, cluster, 2)
    outcome = other.run(odd("sleep"), Heard())
    other.close()
    assert isinstance(outcome, Failed)
    assert outcome.problem["code"] == "time-limit"


def test_files_that_a_worker_cannot_reach(cluster: Cluster, executor: DaskExecutor) -> None:
    other = DaskExecutor(cluster.address, task_seconds=60, folder="another")
    has_slots(other, cluster, 2)
    upload = {"dataset": {"kind": "blob", "sha256": "c" * 64}}
    for task in (Task(next(fences), "estimates", upload, (0,), 1), Task(next(fences), "experiments", {}, (0,), 1)):
        outcome = other.run(task, Heard())
        assert isinstance(outcome, Failed)
        assert outcome.problem["code"] == "data-unavailable"
        assert "the service's NNGP_HOME on a shared file system" in outcome.problem["detail"]
    assert other.run(odd("fine"), Heard()) == Done()
    other.close()


def test_a_task_for_a_worker_that_has_left_is_put_back(executor: DaskExecutor) -> None:
    """Otherwise it would wait for a worker of that size; it is claimed again with the cores of the present workers."""
    for larger in ({"cores": 10**6}, {"bytes": 2**50}):
        outcome = executor.run(replace(odd("fine"), **larger), Heard())
        assert isinstance(outcome, PutBack)
        assert not outcome.lasting


def test_workers_of_other_versions_get_no_work(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_messages, "versions", lambda: {"nngp-prior": "another"})
    dask_messages.resource_names.cache_clear()
    try:
        other = DaskExecutor(cluster.address, task_seconds=60)
        problem = wait_for(lambda: (said := other.problem()) and "other versions" in said and said, 10)
        assert "Install the same packages" in problem
        assert other.capacity().slots == 0
        other.close()
    finally:
        dask_messages.resource_names.cache_clear()


def test_worker_that_is_killed_and_one_that_is_asked_to_end(cluster: Cluster, executor: DaskExecutor) -> None:
    """The first loses its task, the second puts it back; both tasks are not begun again, and others come."""
    _, pid, outcome = running(executor, "sleep")
    first = cluster.workers[worker_of(cluster, pid)]
    first.kill()
    assert isinstance(lost := outcome(), Lost)
    assert "was lost" in lost.reason
    assert gone(pid, within=2)
    has_slots(executor, cluster, 1)
    _, pid, outcome = running(executor, "sleep")
    second = cluster.workers[worker_of(cluster, pid)]
    assert second.end(signal.SIGTERM) == 0
    put_back = outcome()
    assert isinstance(put_back, PutBack)
    assert not put_back.lasting
    assert "was ended" in put_back.reason
    assert not psutil.pid_exists(pid)
    has_slots(executor, cluster, 0)
    assert "Traceback" not in second.log()
    cluster.add_worker(memory_limit=MEMORY)
    has_slots(executor, cluster, 1)
    assert executor.run(odd("fine"), Heard()) == Done()


@pytest.mark.parametrize(
    ("address", "said"), [("login", "login"), ("foo://login:8786", "foo"), ("tls://login:8786", "CA_FILE")]
)
def test_addresses_that_cannot_be_used(address: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as refused:
        require_address(address)
    assert refused.value.field == "NNGP_DASK_ADDRESS"


@pytest.mark.usefixtures("without_extras")
def test_missing_extra_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingExtra, match=r"nngp-prior\[dask\]"):
        executor_of(settings(tmp_path, dask_address="tcp://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("0.5", 0.5), ("01:30:00", 5400), ("2-00:00:30", 2 * 86400 + 30)]
)
def test_walltimes(monkeypatch: pytest.MonkeyPatch, text: str, seconds: float) -> None:
    monkeypatch.setenv("NNGP_WALLTIME", text)
    assert WorkerSettings().walltime == seconds


def test_service_waits_for_a_scheduler(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    executor = DaskExecutor(cluster.address, task_seconds=60)
    assert "cannot be reached" in (executor.problem() or "")
    assert executor.capacity().slots == 0
    assert executor.run(odd("fine"), Heard()) == PutBack(
        f"there is no connection to the Dask scheduler {cluster.address}", lasting=False
    )
    executor.close()


@pytest.mark.slow
def test_encrypted_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the documentation says, with one certificate for all."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the command openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([openssl, *make.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TLS__CA_FILE", str(certificate))
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        monkeypatch.setenv(f"DASK_DISTRIBUTED__COMM__TLS__{role}__CERT", str(certificate))
        monkeypatch.setenv(f"DASK_DISTRIBUTED__COMM__TLS__{role}__KEY", str(key))
    cluster = Cluster(tmp_path, worker="tests.api.executors.odd_worker", protocol="tls")
    try:
        dask.config.refresh()
        cluster.scheduler.start()
        cluster.add_worker()
        executor = DaskExecutor(cluster.address, task_seconds=60)
        has_slots(executor, cluster, 1)
        assert executor.run(odd("fine"), Heard()) == Done()
        executor.close()
    finally:
        cluster.close()
        monkeypatch.undo()
        dask.config.refresh()
