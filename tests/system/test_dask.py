"""A service with two Dask workers under real faults: every job ends with the library's values, to the bit."""

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.system.dask_service import COUNT, DaskService
from tests.system.server import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROUNDS = 30


@pytest.fixture
def service(tmp_path: Path) -> Iterator[DaskService]:
    service = DaskService(tmp_path)
    yield service
    service.close()


def test_worker_that_is_killed(service: DaskService) -> None:
    job_id = service.post(0)
    service.some_rows(job_id, 5)
    service.workers[0].kill()
    service.is_right(job_id)
    assert service.job(job_id)["losses"] == 1


def test_workers_that_are_asked_to_end(service: DaskService) -> None:
    """As by SLURM at the walltime: nothing is counted as lost."""
    job_id = service.post(0)
    service.some_rows(job_id, 5)
    for worker in service.workers:
        assert worker.end(signal.SIGTERM) == 0
    assert service.job(job_id)["state"] == "running"
    service.add_worker()
    service.is_right(job_id)
    assert service.job(job_id)["losses"] == 0


def test_walltime(service: DaskService) -> None:
    """A worker takes no units towards its end, and ends in time; another one does the rest."""
    for worker in service.workers:
        worker.kill()
    began = time.monotonic()
    short = service.add_worker(walltime="00:00:35", drain=8)
    job_id = service.post(0, estimator={"kind": "smc", "replicates": 512})
    wait_for(lambda: not short.alive(), 60, service.logs)
    assert short.end() == 0
    assert time.monotonic() - began < 35
    assert "takes no further units" in short.log()
    assert service.job(job_id)["losses"] == 0
    assert 0 < service.job(job_id)["progress"]["current"] < COUNT


def test_scheduler_that_is_killed_and_started_again(service: DaskService) -> None:
    job_id = service.post(0)
    service.some_rows(job_id, 5)
    busy = service.busy()
    assert busy
    service.cluster.scheduler.kill()
    wait_for(lambda: not any(child.is_running() for child in busy), 5)
    with service.server.http() as http:
        not_ready = wait_for(lambda: (a := http.get("/readyz")).status_code == 503 and a, 20)
    assert "Dask scheduler" in not_ready.json()["detail"]
    service.cluster.scheduler.start()
    service.is_right(job_id)
    assert service.job(job_id)["losses"] == 0


def test_dismissed_job_is_dead_within_five_seconds(service: DaskService) -> None:
    job_id = service.post(0, estimator={"kind": "smc", "replicates": 20_000})
    wait_for(lambda: service.job(job_id)["progress"]["stage"], 120, service.logs)
    time.sleep(1)
    busy = service.busy()
    assert busy
    service.dismiss(job_id)
    wait_for(lambda: not any(child.is_running() for child in busy), 5)
    again = service.post(0)
    service.is_right(again)


def test_service_that_is_killed_and_started_again(service: DaskService) -> None:
    job_id = service.post(0)
    service.some_rows(job_id, 5)
    busy = service.busy()
    assert busy
    service.server.kill()
    wait_for(lambda: not any(child.is_running() for child in busy), 5)
    service.server.start()
    service.is_right(job_id)
    assert service.job(job_id)["losses"] == 0


def test_worker_that_hangs(service: DaskService) -> None:
    """Its unit is lost after half a minute, and computed elsewhere; when it wakes up, it does no harm."""
    job_id = service.post(0)
    service.some_rows(job_id, 5)
    hung = service.workers[0]
    hung.send(signal.SIGSTOP)
    service.is_right(job_id)
    assert service.job(job_id)["losses"] == 1
    hung.send(signal.SIGCONT)
    wait_for(lambda: "connection to the Dask scheduler was lost" in hung.log(), 60, service.logs)
    again = service.post(1)
    service.is_right(again, 1)
    service.workers[1].kill()
    last = service.post(2)
    service.is_right(last, 2)


def test_random_faults(service: DaskService) -> None:
    """In each round something is killed, stopped or ended while a job runs. Nothing is lost, and nothing twice."""
    choice = random.Random(0)
    cluster, server = service.cluster, service.server

    def kill_worker() -> None:
        choice.choice(service.workers).kill()
        service.add_worker()

    def end_worker() -> None:
        choice.choice(service.workers).end(signal.SIGTERM)
        service.add_worker()

    def kill_child() -> None:
        if busy := service.busy():
            with suppress(psutil.NoSuchProcess):
                choice.choice(busy).kill()

    def suspend_worker() -> None:
        worker = choice.choice(service.workers)
        worker.send(signal.SIGSTOP)
        time.sleep(choice.uniform(0, 4))
        worker.send(signal.SIGCONT)

    def restart_scheduler() -> None:
        cluster.scheduler.kill()
        time.sleep(choice.uniform(0, 3))
        cluster.scheduler.start()

    def suspend_scheduler() -> None:
        cluster.scheduler.send(signal.SIGSTOP)
        time.sleep(choice.uniform(0, 4))
        cluster.scheduler.send(signal.SIGCONT)

    def restart_server() -> None:
        server.kill()
        server.start()

    faults: list[Callable[[], None]] = [
        kill_worker, end_worker, kill_child, suspend_worker, restart_scheduler, suspend_scheduler, restart_server,
    ]  # fmt: skip
    order = [faults[i % len(faults)] for i in range(ROUNDS)]
    choice.shuffle(order)
    jobs = []
    for i, fault in enumerate(order):
        jobs.append(service.post(i))
        service.some_rows(jobs[-1], 1)
        time.sleep(choice.uniform(0, 1))
        fault()
        if choice.random() < 0.2:
            service.dismiss(jobs[-1])
            jobs[-1] = service.post(i)
    for i, job_id in enumerate(jobs):
        service.is_right(job_id, i)
    assert len(service.workers) == 2
