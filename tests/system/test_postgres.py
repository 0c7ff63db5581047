"""Services over PostgreSQL: the database is restarted, and one of two services over it is killed."""

from __future__ import annotations

import functools
import itertools
import json
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from nngp_prior import log_probabilities
from nngp_prior.client import Client
from nngp_prior.data import label, load
from nngp_prior.kernels import kernel
from nngp_prior.schemas.specs.architecture import FullyConnected
from nngp_prior.schemas.specs.data import Digits, RandomLabels
from tests.postgres import Postgres, postgres_or_skip
from tests.system.cluster import Cluster
from tests.system.server import TOKEN, Server, wait_for

N = 30
JOBS, EACH = 240, 3  # jobs, and labellings of each


@pytest.fixture
def database() -> Iterator[Postgres]:
    """A server of its own, which the test may stop."""
    database = postgres_or_skip().start()
    yield database
    database.remove()


@pytest.fixture
def pair(database: Postgres, tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """Two services over one database and one store."""
    url = database.url(database.create())
    servers = [Server(tmp_path / "home", slots=1, lease_seconds=3, database_url=url) for _ in range(2)]
    yield servers[0].start(), servers[1].start()
    for server in servers:
        server.kill()


def body(number: int, count: int = EACH) -> dict[str, Any]:
    labellings = [{"kind": "random", "seed": number * EACH + i} for i in range(count)]
    return {"dataset": {"kind": "digits", "n": N}, "labellings": labellings}


def expected(number: int, count: int = EACH) -> list[float]:
    return _values()[number * EACH :][:count]


@functools.cache
def _values() -> list[float]:
    data = load(Digits(n=N))
    Y = [label(RandomLabels(seed=seed), data.classes) for seed in range(JOBS * EACH)]
    return [estimate.value for estimate in log_probabilities(kernel(FullyConnected(depth=2), data.X), Y)]


def events(server: Server, job_id: str) -> list[tuple[str, dict[str, Any]]]:
    with server.http() as http:
        blocks = http.get(f"/v1/jobs/{job_id}/events").text.split("\n\n")
    found = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks if block.startswith("event")]
    return [(each["event"], json.loads(each["data"])) for each in found]


def check(server: Server, job_id: str, values: list[float]) -> None:
    """The job has ended, and each row was computed as the library does and stored once."""
    with server.http() as http:
        document = http.get(f"/v1/jobs/{job_id}").raise_for_status().json()
        rows = http.get(f"/v1/jobs/{job_id}/results").raise_for_status().json()["results"]
    assert (document["state"], document["attempt"], document["losses"]) == ("successful", 1, 0)
    assert [row["log_p"] for row in rows] == values
    told = events(server, job_id)
    assert [name for name, _ in told if name in ("accepted", "running", "successful")] == [
        "accepted",
        "running",
        "successful",
    ]
    stored = Counter(itertools.chain.from_iterable(data["rows"] for name, data in told if name == "rows"))
    assert stored == Counter(range(len(values)))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_restarted_database_loses_nothing(database: Postgres, serve: Callable[..., Server], how: str) -> None:
    url = database.url(database.create())
    server = serve(slots=1, lease_seconds=2, database_url=url)
    pid, count = server.process.pid, 60
    with server.http() as http, Client(server.url, TOKEN, timeout=60) as client, ThreadPoolExecutor(2) as pool:
        job_id = http.post("/v1/estimates", json=body(0, count)).json()["id"]
        wait_for(lambda: http.get(f"/v1/jobs/{job_id}").json()["progress"]["current"] >= 5, 60, server.log)
        waiting = pool.submit(client.job(job_id).wait, 120)
        streaming = threading.Event()

        def read() -> str:
            with server.http() as other, other.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
                return "".join(streaming.set() or part for part in answer.iter_text())

        stream = pool.submit(read)
        assert streaming.wait(30)
        getattr(database, how)()
        for answer in (http.post("/v1/estimates", json=body(1)), http.get(f"/v1/jobs/{job_id}")):
            assert (answer.status_code, answer.json()["code"]) == (503, "database-unavailable")
            assert int(answer.headers["retry-after"]) > 0
        assert http.get("/healthz").status_code == 200
        assert http.get("/readyz").status_code == 503
        later = pool.submit(client.estimate, FullyConnected(depth=2), Digits(n=N), [RandomLabels(seed=EACH)])
        assert "event: accepted" in stream.result(30)  # the stream ends, and may be asked for again
        database.start()
        assert waiting.result(120)
        assert later.result(60).result(60).values.tolist() == expected(1, 1)
        wait_for(lambda: http.get("/readyz").status_code == 200, 30, server.log)
    check(server, job_id, expected(0, count))
    assert server.process.pid == pid


@pytest.mark.slow
def test_two_services_under_load_of_which_one_is_killed(pair: tuple[Server, Server]) -> None:
    """Each job is sent to both by several clients, who take the other service if one does not answer."""
    ended: dict[int, tuple[str, str]] = {}
    begun = threading.Semaphore(0)

    def call(first: int, method: str, path: str, **options: Any) -> httpx2.Response:
        for server in itertools.islice(itertools.cycle((pair[first], pair[1 - first])), 40):
            try:
                with server.http() as http:
                    answer = http.request(method, path, **options)
            except httpx2.TransportError:
                continue
            if answer.status_code not in (429, 503):
                return answer
        raise AssertionError(answer.text)

    def use(number: int) -> None:
        first = number % 2
        answers = [call(each, "POST", "/v1/estimates", json=body(number)) for each in (first, 1 - first)]
        ids = {answer.json()["id"] for answer in answers}
        assert len(ids) == 1, [answer.text for answer in answers]
        begun.release()
        (job_id,) = ids
        for _ in range(20):  # of the one to which it was sent last, each at most 30 s; it may be computed by the other
            document = call(1 - first, "GET", f"/v1/jobs/{job_id}", headers={"Prefer": "wait=30"}).json()
            if document["state"] not in ("accepted", "running"):
                break
        ended[number] = job_id, document["state"]

    with ThreadPoolExecutor(8) as pool:
        using = [pool.submit(use, number) for number in range(JOBS)]
        for _ in range(JOBS // 3):
            assert begun.acquire(timeout=120)
        pair[0].kill()
        for each in using:
            each.result(300)
    assert sorted(ended) == list(range(JOBS))
    assert {state for _, state in ended.values()} == {"successful"}
    assert len({job_id for job_id, _ in ended.values()}) == JOBS
    for number in range(JOBS):
        check(pair[1], ended[number][0], expected(number))
    with pair[1].http() as http:
        metrics = http.get("/metrics").text
    assert f'nngp_jobs{{state="successful"}} {JOBS}.0' in metrics


@pytest.mark.slow
def test_what_one_service_computes_the_other_tells_and_ends(pair: tuple[Server, Server]) -> None:
    """One service alone has a slot that is free: the other one's waits, streams and dismissals reach it at once."""
    first, second = pair
    long = {**body(0, 1), "dataset": {"kind": "digits", "n": 500}, "estimator": {"kind": "smc", "replicates": 20_000}}
    with first.http() as one, second.http() as two, ThreadPoolExecutor(2) as pool:
        ids = [one.post("/v1/estimates", json={**long, "seed": seed}).json()["id"] for seed in range(2)]
        for job_id in ids:
            wait_for(lambda job_id=job_id: two.get(f"/v1/jobs/{job_id}").json()["progress"]["stage"], 60, first.log)
        assert len(first.workers) == len(second.workers) == 1  # both compute
        busy = [server.workers[0] for server in pair]
        streams = [pool.submit(http.get, f"/v1/jobs/{ids[0]}/events") for http in (one, two)]
        for job_id in ids:
            two.delete(f"/v1/jobs/{job_id}")
        wait_for(lambda: not any(worker.is_running() for worker in busy), 5)
        assert all("event: dismissed" in stream.result(10).text for stream in streams)


@pytest.mark.slow
def test_two_services_and_two_workers(database: Postgres, tmp_path: Path) -> None:
    """The processes of the cluster in compose.yaml; one of the services is killed in the middle."""
    home, url = tmp_path / "home", database.url(database.create())
    home.mkdir()
    cluster = Cluster(home)
    servers = [
        Server(home, lease_seconds=3, database_url=url, dask_address=cluster.address, min_free_disk=0) for _ in range(2)
    ]
    try:
        cluster.scheduler.start()
        for _ in range(2):
            cluster.add_worker()
        for server in servers:
            server.start()
        ids = []
        for number in range(8):
            with servers[number % 2].http() as http:
                ids.append(http.post("/v1/estimates", json=body(number * 10, 30)).raise_for_status().json()["id"])
        with servers[1].http() as http:
            wait_for(lambda: http.get(f"/v1/jobs/{ids[0]}").json()["progress"]["current"] >= 1, 120, cluster.logs)
            servers[0].kill()
            for number, job_id in enumerate(ids):
                wait_for(
                    lambda job_id=job_id: http.get(f"/v1/jobs/{job_id}").json()["state"] == "successful",
                    120,
                    lambda: servers[1].log()[-3000:] + cluster.logs(),
                )
                check(servers[1], job_id, expected(number * 10, 30))
    finally:
        for server in servers:
            server.kill()
        cluster.close()


@pytest.mark.slow
def test_a_service_of_another_store_or_with_a_file_is_refused(pair: tuple[Server, Server], tmp_path: Path) -> None:
    url = pair[0].environment()["NNGP_DATABASE_URL"]
    with pytest.raises(AssertionError, match="have their uploads and kernels in another folder"):
        Server(tmp_path / "other", slots=1, database_url=url).start()
    with pytest.raises(AssertionError, match="another service uses"):
        Server(pair[0].home, slots=1).start()


@pytest.mark.slow
def test_a_service_that_stands_still_loses_its_units_and_changes_nothing(pair: tuple[Server, Server]) -> None:
    first, second = pair
    with second.http() as http:
        ids = [http.post("/v1/estimates", json=body(number, 40)).json()["id"] for number in (0, 100)]
        for job_id in ids:
            wait_for(lambda job_id=job_id: http.get(f"/v1/jobs/{job_id}").json()["progress"]["current"] >= 1, 60)
        first.process.send_signal(signal.SIGSTOP)
        for job_id in ids:
            wait_for(lambda job_id=job_id: http.get(f"/v1/jobs/{job_id}").json()["state"] == "successful", 90)
        first.process.send_signal(signal.SIGCONT)
        wait_for(lambda: httpx2.get(f"{first.url}/readyz").status_code == 200, 30)
        for number, job_id in zip((0, 100), ids, strict=True):
            check(first, job_id, expected(number, 40))
