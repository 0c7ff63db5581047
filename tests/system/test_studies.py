"""Studies on a real server: killed workers and servers, dismissal in the middle of a training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nngp_prior.client import Client
from nngp_prior.schemas.protocols import Protocol
from tests.experiments.cases import FOUR, assert_same
from tests.system.server import TOKEN, Server, wait_for

Serve = Callable[..., Server]


def _rows(server: Server) -> list[bytes]:
    return [line for path in server.home.glob("studies/*/rows.jsonl") for line in path.read_bytes().splitlines()]


def _wait_for_tasks(server: Server, job: Any, count: int) -> None:
    wait_for(lambda: job.status().current >= count, 60, lambda: server.log()[-3000:])


@pytest.mark.timeout(240)
@pytest.mark.slow
def test_a_study_survives_its_workers_and_the_server_and_computes_nothing_twice(serve: Serve, tmp_path: Path) -> None:
    server = serve(slots=2, lease_seconds=2)
    with Client(server.url, TOKEN, timeout=60) as client:
        job = client.experiment(FOUR)
        _wait_for_tasks(server, job, 1)
        for worker in server.workers:
            worker.kill()
        before = _rows(server)
        _wait_for_tasks(server, job, 5)
        server.kill()
        later = _rows(server)
        assert later[: len(before)] == before
        server.start()
        again = client.experiment(FOUR)
        assert again.id == job.id
        results = again.result(120)
        assert again.status().document["losses"] >= 1
        rows = _rows(server)
        assert rows[: len(later)] == later
        keys = [tuple(json.loads(row)["key"]) for row in rows]
        assert len(keys) == len(set(keys)) == 12
        assert_same(results, Protocol.model_validate(FOUR), tmp_path / "library")
        assert "<svg" in again.report()


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_a_training_is_dismissed_in_the_middle(serve: Serve) -> None:
    """Progress within it is shown before, its process ends, and another attempt may begin."""
    server = serve(slots=1)
    endless = {**FOUR, "axes": {}, "training": {"goal": "none", "epochs": 10**7, "batch_size": 10}}
    with Client(server.url, TOKEN) as client:
        job = client.experiment(endless)
        wait_for(
            lambda: (job.status().document["progress"]["stage"] or {}).get("stage") == "epochs",
            60,
            lambda: server.log()[-3000:],
        )
        (worker,) = server.workers
        assert job.dismiss().state == "dismissed"
        wait_for(lambda: not worker.is_running(), 5)
        again = client.experiment(endless)
        assert (again.id, again.status().document["attempt"]) == (job.id, 2)
        again.dismiss()
