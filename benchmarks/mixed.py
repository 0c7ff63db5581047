"""One large job and many small ones: how long the small ones wait, beside an empty service."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.problems import ARCHITECTURE
from benchmarks.report import Column, Table, say
from tests.system.server import Server, wait_for

_N = 200
_EACH = 1.0  # seconds between two small jobs


def run(quick: bool) -> list[Table]:
    """The same small jobs in an empty service, and while a large job is computed; then the large one must be done."""
    count, large = (8, 600) if quick else (50, 12_000)
    with tempfile.TemporaryDirectory() as home:
        server = Server(Path(home)).start()
        try:
            _wait(server, _post(server, 1, seed=10**6))  # compiles, and fills the store
            say("small jobs in an empty service")
            empty = _small(server, count, seed=0)
            job_id = _post(server, large, seed=2 * 10**6)
            wait_for(lambda: _job(server, job_id)["state"] == "running", 60)
            time.sleep(5.0)
            say("small jobs beside a large one")
            before = _job(server, job_id)["progress"]["current"]
            beside = _small(server, count, seed=10**5)
            after = _job(server, job_id)
        finally:
            server.kill()
    rows = [
        {"load": "empty service", "count": count, **_figures(empty)},
        {"load": "beside one large job", "count": count, **_figures(beside)}
        | {"large": large, "done": after["progress"]["current"] - before},
    ]
    assert after["state"] == "running"
    return [_table(rows)]


def _small(server: Server, count: int, seed: int) -> list[float]:
    """Seconds from posting each small job to its end; one is posted each second, whatever came of the others."""
    begun = threading.Event()

    def one(place: int) -> float:
        begun.wait()
        time.sleep(_EACH * place)
        began = time.perf_counter()
        _wait(server, _post(server, 1, seed=seed + place))
        return time.perf_counter() - began

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(one, place) for place in range(count)]
        begun.set()
        return [future.result() for future in futures]


def _post(server: Server, labellings: int, seed: int) -> str:
    body = {
        "architecture": ARCHITECTURE.model_dump(mode="json"),
        "dataset": {"kind": "digits", "n": _N},
        "labellings": [{"kind": "random", "seed": seed + i} for i in range(labellings)],
        "seed": seed,
    }
    with server.http() as http:
        return http.post("/v1/estimates", json=body).raise_for_status().json()["id"]


def _job(server: Server, job_id: str) -> dict[str, Any]:
    with server.http() as http:
        return http.get(f"/v1/jobs/{job_id}").raise_for_status().json()


def _wait(server: Server, job_id: str) -> None:
    with server.http() as http:
        while (job := http.get(f"/v1/jobs/{job_id}", headers={"Prefer": "wait=20"}).json())["finished"] is None:
            pass
    assert job["state"] == "successful"


def _figures(seconds: list[float]) -> dict[str, float]:
    return {
        "median": statistics.median(seconds),
        "p90": float(np.quantile(seconds, 0.9)),
        "longest": max(seconds),
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    return Table(
        "Small jobs beside a large one",
        [
            Column("load", "load"),
            Column("small jobs", "count"),
            Column("median, s", "median", ".2f"),
            Column("90 %, s", "p90", ".2f"),
            Column("longest, s", "longest", ".2f"),
            Column("labellings of the large job", "large"),
            Column("of them done meanwhile", "done"),
        ],
        rows,
        [
            f"smc with its defaults, n = {_N}; a small job is one labelling, posted {_EACH:.0f} s after the one before",
            "seconds from posting a small job to its end; the large one computes before, meanwhile and afterwards",
        ],
    )
