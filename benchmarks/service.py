"""The service under load: labellings a second over HTTP against the library's own rate, in one run.

The server is a process of its own with a fresh store. Its results are compared bit for bit with the library's.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import numpy as np
import psutil

from benchmarks.problems import ARCHITECTURE, DATASETS, data_note, inputs, source
from benchmarks.report import Column, Table, say
from nngp_prior import kernel, log_probabilities
from nngp_prior.client import Client
from nngp_prior.data import label
from nngp_prior.schemas.specs.data import RandomLabels
from tests.system.server import TOKEN, Server

_CONNECTIONS = 16
_GOALS = {"one request": 0.8, "one request a labelling": 0.3}


def run(quick: bool) -> list[Table]:
    """Many labellings in one request, and one request each; then how soon what is finished is answered."""
    n, count = (100, 20) if quick else (500, 1000)
    dataset = DATASETS[source()](n=n)
    data = inputs(n)
    Y = np.stack([label(RandomLabels(seed=seed), data.classes) for seed in range(2 * count)])
    say(f"the library, {count} labellings, n = {n}")
    K = kernel(ARCHITECTURE, data.X)
    log_probabilities(K, Y[:4])
    began = time.perf_counter()
    expected = [estimate.value for estimate in log_probabilities(K, Y)]
    own = len(Y) / (time.perf_counter() - began)
    with _server() as server:
        url, process = server.url, server.process
        client = Client(url, TOKEN)
        client.estimate(ARCHITECTURE, dataset, Y[:2], seed=99).result()  # compiles, and fills the store
        rows = []
        for name, ask, part in (
            ("one request", lambda part: _together(client, dataset, Y[part]), slice(count)),
            ("one request a labelling", lambda part: _apart(url, dataset, Y[part]), slice(count, None)),
        ):
            say(f"the service, {name}")
            with watched(url, process) as seen:
                began = time.perf_counter()
                values = ask(part)
                seconds = time.perf_counter() - began
            rate = count / seconds
            rows.append(
                {
                    "way": name,
                    "n": n,
                    "count": count,
                    "rate": rate,
                    "own": own,
                    "ratio": rate / own,
                    "goal": _GOALS[name],
                    "same": sum(value == right for value, right in zip(values, expected[part], strict=True)),
                    **seen(),
                }
            )
        known = _known(url, dataset, Y[-1], 20 if quick else 300)
    return [_throughput(rows, data_note(n)), known]


class _Request(NamedTuple):
    """One labelling, by hand: what a user's own script would send."""

    dataset: Any
    labels: np.ndarray

    def body(self) -> dict[str, Any]:
        return {
            "architecture": ARCHITECTURE.model_dump(mode="json"),
            "dataset": self.dataset.model_dump(mode="json"),
            "labellings": [{"kind": "explicit", "values": self.labels.tolist()}],
        }


def _together(client: Client, dataset: Any, Y: np.ndarray) -> list[float]:
    return [result.value for result in client.estimate(ARCHITECTURE, dataset, Y).result()]


def _apart(url: str, dataset: Any, Y: np.ndarray) -> list[float]:
    local = threading.local()

    def one(labels: np.ndarray) -> float:
        if not hasattr(local, "http"):
            local.http = _http(url)
        while True:
            answer = local.http.post(
                "/v1/estimates", json=_Request(dataset, labels).body(), headers={"Prefer": "wait=30"}
            )
            answer.raise_for_status()
            if "results" in answer.json():
                return answer.json()["results"][0]["log_p"]

    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        return list(pool.map(one, Y))


def _known(url: str, dataset: Any, labels: np.ndarray, times: int) -> Table:
    http, body = _http(url), _Request(dataset, labels).body()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        answer = http.post("/v1/estimates", json=body, headers={"Prefer": "wait=1"})
        seconds.append(time.perf_counter() - began)
        answer.raise_for_status()
        assert "results" in answer.json()
    return Table(
        "A finished request again",
        [
            Column("times", "times"),
            Column("median, ms", "median", ".2f"),
            Column("99th percentile, ms", "p99", ".2f"),
            Column("goal, ms", "goal"),
        ],
        [
            {
                "times": times,
                "median": 1e3 * statistics.median(seconds),
                "p99": 1e3 * np.quantile(seconds, 0.99),
                "goal": 10,
            }
        ],
        ["one labelling sent explicitly; the answer is its results"],
    )


@contextmanager
def _server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as home:
        server = Server(Path(home)).start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def watched(url: str, process: psutil.Process) -> Iterator[Callable[[], dict[str, Any]]]:
    """Ask for the server's health 20 times a second, and note its memory."""
    stop, seconds, resident = threading.Event(), [], []

    def watch() -> None:
        with _http(url) as http:
            while not stop.wait(0.05):
                began = time.perf_counter()
                http.get("/healthz").raise_for_status()
                seconds.append(time.perf_counter() - began)
                resident.append(process.memory_info().rss / 1e6)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: {
            "health_p50": 1e3 * statistics.median(seconds),
            "health_p99": 1e3 * float(np.quantile(seconds, 0.99)),
            "rss_first": resident[0],
            "rss_last": resident[-1],
            "rss_most": max(resident),
        }
    finally:
        stop.set()
        thread.join()


def _http(url: str) -> httpx2.Client:
    return httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)


def _throughput(rows: list[dict[str, Any]], note: str) -> Table:
    return Table(
        "The service against the library",
        [
            Column("way", "way"),
            Column("n", "n"),
            Column("labellings", "count"),
            Column("a second", "rate", ".1f"),
            Column("library, a second", "own", ".1f"),
            Column("service / library", "ratio", ".2f"),
            Column("goal", "goal", ".1f"),
            Column("equal to the bit", "same"),
            Column("health, median ms", "health_p50", ".1f"),
            Column("health, 99 % ms", "health_p99", ".1f"),
            Column("server at first, MB", "rss_first", ".0f"),
            Column("at last, MB", "rss_last", ".0f"),
            Column("at most, MB", "rss_most", ".0f"),
        ],
        rows,
        [
            note,
            "smc with its defaults, random labels; the library: log_probabilities of all of them in one process",
            f"one request a labelling: from {_CONNECTIONS} connections that wait for results, on the same cores",
            "health: /healthz asked 20 times a second meanwhile",
        ],
    )
