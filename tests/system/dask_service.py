"""A service with Dask workers, and the values that its jobs should have."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil

from nngp_prior import log_probabilities
from nngp_prior.data import label, load
from nngp_prior.kernels import kernel
from nngp_prior.schemas.specs.architecture import FullyConnected
from nngp_prior.schemas.specs.data import Digits, RandomLabels
from tests.system.cluster import Cluster, Process
from tests.system.server import Server, wait_for

T = TypeVar("T")
N, COUNT = 100, 60  # inputs, and labellings of a job that takes long enough to be disturbed


@functools.cache
def expected() -> list[float]:
    """The library's values of the labellings of a job."""
    data = load(Digits(n=N))
    Y = [label(RandomLabels(seed=i), data.classes) for i in range(COUNT)]
    return [estimate.value for estimate in log_probabilities(kernel(FullyConnected(depth=2), data.X), Y)]


def turned(values: Sequence[T], turn: int) -> list[T]:
    """The values, beginning with another one: the same labellings in another order are another job."""
    return [*values[turn % COUNT :], *values[: turn % COUNT]]


class DaskService:
    """A server, its scheduler and workers.

    Args:
        folder: of the store and of logs.
        cluster: scheduler; default: one on loopback.
        workers: number of workers to start with.
    """

    def __init__(self, folder: Path, cluster: Cluster | None = None, workers: int = 2) -> None:
        self.cluster = cluster or Cluster(folder)
        self.server = Server(folder / "home", dask_address=self.cluster.address, lease_seconds=3)
        self.cluster.scheduler.start()
        self.server.start()
        for _ in range(workers):
            self.add_worker()

    def add_worker(self, prefix: Sequence[str] = (), **settings: Any) -> Process:
        return self.cluster.add_worker(prefix, home=self.server.home, **settings)

    def has_workers(self, count: int) -> None:
        with self.server.http() as http:
            wanted = f'nngp_capacity{{what="slots"}} {float(count)}'
            wait_for(lambda: wanted in http.get("/metrics").text, 120, self.logs)

    @property
    def workers(self) -> list[Process]:
        return [worker for worker in self.cluster.workers if worker.alive()]

    def post(self, turn: int, **fields: Any) -> str:
        body = {
            "dataset": {"kind": "digits", "n": N},
            "labellings": [{"kind": "random", "seed": seed} for seed in turned(range(COUNT), turn)],
            **fields,
        }
        with self.server.http() as http:
            return http.post("/v1/estimates", json=body).raise_for_status().json()["id"]

    def job(self, job_id: str) -> dict[str, Any]:
        with self.server.http() as http:
            return http.get(f"/v1/jobs/{job_id}").raise_for_status().json()

    def dismiss(self, job_id: str) -> None:
        with self.server.http() as http:
            http.delete(f"/v1/jobs/{job_id}").raise_for_status()

    def rows(self, job_id: str) -> list[dict[str, Any]]:
        with self.server.http() as http:
            return http.get(f"/v1/jobs/{job_id}/results").raise_for_status().json()["results"]

    def some_rows(self, job_id: str, count: int) -> None:
        wait_for(lambda: self.job(job_id)["progress"]["current"] >= count, 120, self.logs)

    def ended(self, job_id: str, seconds: float = 300) -> dict[str, Any]:
        wait_for(lambda: self.job(job_id)["state"] in ("successful", "failed", "dismissed"), seconds, self.logs)
        return self.job(job_id)

    def is_right(self, job_id: str, turn: int = 0) -> None:
        """A job ended with one result per labelling, each of which is the library's."""
        assert self.ended(job_id)["state"] == "successful", self.logs()
        rows = self.rows(job_id)
        assert [row["labelling"] for row in rows] == list(range(COUNT))
        assert [row["log_p"] for row in rows] == turned(expected(), turn), [
            row["message"] for row in rows if row["message"]
        ]

    def busy(self, *workers: Process) -> list[psutil.Process]:
        """Processes of workers, by default of all, that compute."""
        return [child for worker in workers or self.workers for child in worker.children() if _computes(child)]

    def logs(self) -> str:
        return f"{self.server.log()[-3000:]}\n{self.cluster.logs()}\n{self.cluster.scheduler.log()[-2000:]}"

    def close(self) -> None:
        self.server.kill()
        self.cluster.close()


def _computes(process: psutil.Process) -> bool:
    try:
        return process.cpu_percent(0.3) > 20
    except psutil.Error:  # it has just died
        return False
