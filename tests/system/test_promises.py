"""Promises of the service under faults, each with a real server and a real fault.

One server with one worker serves all tests that leave it whole, also by starting it again, and another one those with
little room. Jobs that would be the same
differ in the number of their rows, so that each is new to the server and their values are known from one computation.
"""

import functools
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np
import psutil
import pytest

from api.jobs.transaction import LOSSES
from nngp_prior import log_probabilities
from nngp_prior.client import Client
from nngp_prior.data import label, load
from nngp_prior.kernels import kernel
from nngp_prior.schemas.specs.architecture import FullyConnected
from nngp_prior.schemas.specs.data import Digits, RandomLabels
from tests.system.server import TOKEN, Server, wait_for

Serve = Callable[..., Server]
N, COUNT = 100, 24  # inputs, and labellings of a job that takes long enough to be disturbed


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("home"), slots=1, queue_limit=2, lease_seconds=2).start()
    yield server
    server.kill()


def body(count: int = COUNT, n: int = N, seed: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "dataset": {"kind": "digits", "n": n},
        "labellings": [{"kind": "random", "seed": i} for i in range(count)],
        "seed": seed,
        **fields,
    }


@functools.cache
def expected() -> list[float]:
    data = load(Digits(n=N))
    Y = [label(RandomLabels(seed=i), data.classes) for i in range(COUNT)]
    return [e.value for e in log_probabilities(kernel(FullyConnected(depth=2), data.X), Y)]


def post(server: Server, request: dict[str, Any], **headers: str) -> Any:
    with server.http() as http:
        return http.post("/v1/estimates", json=request, headers=headers)


def job(server: Server, job_id: str) -> dict[str, Any]:
    with server.http() as http:
        return http.get(f"/v1/jobs/{job_id}").raise_for_status().json()


def rows(server: Server, job_id: str) -> list[dict[str, Any]]:
    with server.http() as http:
        return http.get(f"/v1/jobs/{job_id}/results", params={"partial": True}).raise_for_status().json()["results"]


def ended(server: Server, job_id: str, seconds: float = 60) -> dict[str, Any]:
    wait_for(
        lambda: job(server, job_id)["state"] in ("successful", "failed", "dismissed"),
        seconds,
        lambda: f"{job(server, job_id)}\n{server.log()[-3000:]}",
    )
    return job(server, job_id)


def some_rows(server: Server, job_id: str, count: int) -> None:
    wait_for(lambda: job(server, job_id)["progress"]["current"] >= count, 60, lambda: server.log()[-3000:])


def test_killed_workers_and_servers_lose_no_row(server: Server) -> None:
    """Rows that are done are not computed again, and a kill of the server is no fault of those that it computes."""
    ids = [post(server, body(count, seed=seed)).json()["id"] for seed, count in ((0, COUNT), (1, 5))]
    some_rows(server, ids[0], 5)
    first = rows(server, ids[0])
    for worker in server.workers:
        worker.kill()
    some_rows(server, ids[0], 12)
    losses = job(server, ids[0])["losses"]
    assert losses >= 1
    second = rows(server, ids[0])
    workers = server.workers
    server.kill()
    wait_for(lambda: not any(worker.is_running() for worker in workers), 5)
    server.start()
    after = [ended(server, job_id) for job_id in ids]
    assert [(each["state"], each["losses"]) for each in after] == [("successful", losses), ("successful", 0)]
    results = rows(server, ids[0])
    assert [row["log_p"] for row in results] == expected()
    by_row = {row["labelling"]: row for row in results}
    assert all(by_row[row["labelling"]] == row for row in [*first, *second])  # seconds too
    assert len(rows(server, ids[1])) == 5


def test_interrupted_server_leaves_no_process_and_its_clients_continue_when_it_is_back(server: Server) -> None:
    long = post(server, body(1, n=500, estimator={"kind": "smc", "replicates": 20_000})).json()["id"]
    waiting = body(2, n=20)
    queued = post(server, waiting).json()["id"]
    with ThreadPoolExecutor(4) as pool, server.http() as http, Client(server.url, TOKEN) as client:
        answers = [
            pool.submit(http.post, "/v1/estimates", json=waiting, headers={"Prefer": "wait=30"}),
            pool.submit(http.get, f"/v1/jobs/{queued}", headers={"Prefer": "wait=30"}),
        ]
        events = pool.submit(http.get, f"/v1/jobs/{queued}/events")
        ended = pool.submit(client.job(queued).wait, 60)
        wait_for(lambda: job(server, long)["progress"]["stage"], 60, lambda: server.log()[-3000:])
        time.sleep(0.5)
        assert not any(answer.done() for answer in (*answers, events, ended))
        workers, logged = server.workers, len(server.log())
        server.interrupt()
        assert workers
        assert not any(worker.is_running() for worker in workers)
        assert "Traceback" not in server.log()[logged:]
        for answer in answers:
            problem = answer.result().json()
            assert (answer.result().status_code, problem["code"], problem["retryable"]) == (503, "stopping", True)
            assert int(answer.result().headers["Retry-After"]) > 0
        assert "event: accepted" in events.result().text
        server.start()
        assert job(server, long)["losses"] == 0
        with server.http() as later:
            later.delete(f"/v1/jobs/{long}")
        assert ended.result()
        assert job(server, queued)["state"] == "successful"


@pytest.mark.slow
def test_kills_of_the_server_are_no_fault_of_the_row_that_it_computes(serve: Serve) -> None:
    """As many of them as the workers that a row may lose; a lease would not survive the start."""
    server = serve(slots=1, lease_seconds=0.5)
    job_id = post(server, body(1, n=500, estimator={"kind": "smc", "replicates": 20_000})).json()["id"]
    for _ in range(LOSSES):
        wait_for(lambda: job(server, job_id)["progress"]["stage"], 60, lambda: server.log()[-3000:])
        server.kill()
        server.start()
    wait_for(lambda: job(server, job_id)["progress"]["stage"], 60, lambda: server.log()[-3000:])
    assert job(server, job_id)["losses"] == 0
    assert rows(server, job_id) == []


def test_same_request_fifty_times_at_once_is_one_job(server: Server) -> None:
    request = body(3, n=50)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: post(server, request), range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] * 49 + [201]
    (job_id,) = {answer.json()["id"] for answer in answers}
    assert ended(server, job_id)["attempt"] == 1
    with server.http() as http:
        jobs = http.get("/v1/jobs?limit=500").json()["jobs"]
        assert len([each for each in jobs if each["progress"]["target"] == 3]) == 1
        started = [line for line in http.get(f"/v1/jobs/{job_id}/events").text.splitlines() if line == "event: running"]
    assert len(started) == 1


def test_invalid_rows_say_why_and_the_others_are_computed(server: Server) -> None:
    """Contradictory, of another length, and by classes that are not there; the others are computed."""
    request = {
        "dataset": {"kind": "inline", "x": [[1.0, 2.0], [1.0, 2.0], [0.5, -1.0]]},
        "labellings": [
            {"kind": "explicit", "values": [1, -1, 1]},
            {"kind": "explicit", "values": [1, 1]},
            {"kind": "parity"},
            {"kind": "explicit", "values": [1, 1, -1]},
        ],
        "estimator": {"kind": "closed-form"},
    }
    results = post(server, request, prefer="wait=30").json()["results"]
    assert [row["status"] for row in results] == ["impossible", "invalid-labels", "invalid-labels", "ok"]
    assert results[0]["log_p"] == "-Infinity"
    assert "correlation" in results[0]["message"]
    assert results[3]["log_p"] < 0


def test_full_queue_is_429(server: Server) -> None:
    ids = [post(server, body(200, seed=seed)).json()["id"] for seed in (0, 1)]
    answer = post(server, body(200, seed=2))
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json()["code"] == "queue-full"
    assert answer.json()["retryable"]
    assert post(server, body(200, seed=0)).status_code == 200  # what is there already is no new job
    with server.http() as http:
        for job_id in ids:
            assert http.delete(f"/v1/jobs/{job_id}").status_code == 202
        answer = post(server, body(1, n=20, seed=2))
        assert answer.status_code == 201
        http.delete(f"/v1/jobs/{answer.json()['id']}")


@pytest.mark.slow
def test_dismissed_job_ends_and_starts_again_with_its_rows(server: Server) -> None:
    job_id = post(server, body(400)).json()["id"]
    some_rows(server, job_id, 2)
    workers = {worker.pid for worker in server.workers}
    with server.http() as http:
        assert http.delete(f"/v1/jobs/{job_id}").json()["state"] == "dismissed"
        wait_for(lambda: not any(psutil.pid_exists(pid) for pid in workers if _computes(pid)), 5)
        assert http.get(f"/v1/jobs/{job_id}/results").status_code == 410
        kept = rows(server, job_id)
        assert kept
        again = http.post("/v1/estimates", json=body(400))
        assert again.status_code == 201
        assert again.json()["id"] == job_id
        assert again.json()["attempt"] == 2
        assert again.json()["progress"]["current"] >= len(kept)
        http.delete(f"/v1/jobs/{job_id}")


def _computes(pid: int) -> bool:
    try:
        return psutil.Process(pid).cpu_percent(0.2) > 20
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with few file descriptors, and on a small disk where this process may mount one."""
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", folder]
    mounted = shutil.which("mount") and os.geteuid() == 0 and not subprocess.run(mount, check=False).returncode
    few = ["bash", "-c", 'ulimit -n 64 && exec "$@"', "-"]
    server = Server(folder / "home", prefix=few, slots=1, min_free_disk=2**20).start()
    yield server
    server.kill()
    if mounted:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
def test_disk_that_is_full(narrow: Server) -> None:
    if not narrow.home.parent.is_mount():
        pytest.skip("needs the right to mount a small tmpfs")
    job_id = post(narrow, body(COUNT // 2)).json()["id"]
    some_rows(narrow, job_id, 2)
    filler = narrow.home.parent / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):  # what a buffer held would fail at the end
        while True:
            file.write(bytes(2**16))
    answer = wait_for(lambda: (a := post(narrow, body(1, seed=9))).status_code == 507 and a, 20)
    assert answer.json()["code"] == "storage-full"
    assert answer.json()["retryable"]
    with narrow.http() as http:
        array = np.lib.format.magic(1, 0)
        assert http.put(f"/v1/blobs/{'0' * 64}", content=array + bytes(2**20)).status_code in (422, 507)
    assert job(narrow, job_id)["state"] in ("running", "accepted")
    filler.unlink()
    assert ended(narrow, job_id)["state"] == "successful"
    assert [row["log_p"] for row in rows(narrow, job_id)] == expected()[: COUNT // 2]
    assert post(narrow, body(1, seed=9)).status_code == 201
    assert not list((narrow.home / "blobs").rglob("*.tmp*"))


def test_events_continue_after_the_last_one(server: Server) -> None:
    job_id = post(server, body(4, n=50)).json()["id"]
    ended(server, job_id)
    with server.http() as http:
        events = _events(http.get(f"/v1/jobs/{job_id}/events").text)
        assert [event["event"] for event in events][:1] == ["accepted"]
        assert events[-1]["event"] == "successful"
        middle = events[len(events) // 2]["id"]
        again = _events(http.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": middle}).text)
    assert again == [event for event in events if int(event["id"]) > int(middle)]


def _events(text: str) -> list[dict[str, str]]:
    blocks = [block for block in text.split("\n\n") if block.strip() and not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block.splitlines() if ": " in line) for block in blocks]


@pytest.mark.slow
def test_few_file_descriptors(narrow: Server) -> None:
    """Connections take half of them at most, so that idle ones of others keep nobody from being answered."""
    logged = len(narrow.log())
    assert post(narrow, body(1, n=20), prefer="wait=30").status_code == 200
    with ExitStack() as held:
        for _ in range(100):
            held.enter_context(socket.create_connection(("127.0.0.1", narrow.port)))
        for seed in (1, 2):
            assert post(narrow, body(1, n=20, seed=seed), prefer="wait=30").status_code == 200
        with narrow.http() as http:
            assert http.get("/readyz").status_code == 200
    log = narrow.log()[logged:]
    assert log.count("no file descriptors are left") <= 1
    assert "Traceback" not in log
    assert len(log.splitlines()) < 100


@pytest.mark.slow
def test_a_kernel_can_be_removed_when_no_worker_has_it_any_more(serve: Serve) -> None:
    server = serve()
    key = post(server, body(1, n=20), prefer="wait=30").json()["kernel"]
    with server.http() as http:
        assert http.delete(f"/v1/kernels/{key}").json()["code"] == "kernel-in-use"
        wait_for(lambda: http.delete(f"/v1/kernels/{key}").status_code == 204, 30)
        assert http.get(f"/v1/kernels/{key}").status_code == 404
