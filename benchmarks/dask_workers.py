"""A service with two Dask workers against the same service with its own processes, on the cores of this machine."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.report import Column, Table, say
from nngp_prior.numerics.threads import cores
from tests.system.cluster import Cluster
from tests.system.server import Server, wait_for

_N, _GOAL = 500, 0.9
_PAIRS = 2  # of runs, one after the other, since the machine may not be quiet


def run(quick: bool) -> Iterator[Table]:
    """Labellings per second of one request, in turns on Dask workers and on the service's own processes."""
    n, count, pairs = (50, 100, 1) if quick else (_N, 1000, _PAIRS)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as ends:
        cluster = Cluster(Path(folder))
        ends.callback(cluster.close)
        cluster.scheduler.start()
        servers = {
            "local": Server(Path(folder) / "local", slots=cores()),
            "dask": Server(Path(folder) / "dask", dask_address=cluster.address),
        }
        for server in servers.values():
            ends.callback(server.kill)
            server.start()
        for _ in range(cores()):
            cluster.add_worker(home=servers["dask"].home)
        rates: dict[str, list[float]] = {way: [] for way in servers}
        values: dict[str, list[float]] = {}
        for way, server in servers.items():  # imports, kernels and compilation
            wait_for(lambda server=server: f'"slots"}} {float(cores())}' in _metrics(server), 60)
            _timed(server, n, 8 * cores(), seed=0)
            say(f"{way} is warm")
        for pair in range(1, pairs + 1):
            for way in sorted(servers, reverse=pair % 2 == 0):
                seconds, values[way] = _timed(servers[way], n, count, seed=pair)
                rates[way].append(count / seconds)
                say(f"{way}: {rates[way][-1]:.1f} labellings a second")
            assert values["local"] == values["dask"], "the values differ"
    ratios = [there / here for there, here in zip(rates["dask"], rates["local"], strict=True)]
    yield Table(
        "Dask workers against the service's own processes",
        [
            Column("n", "n"),
            Column("labellings", "count"),
            Column("own processes, a second", "local", ".1f"),
            Column("Dask workers, a second", "dask", ".1f"),
            Column("workers / own", "ratio", ".2f"),
            Column("goal", "goal", ".1f"),
            Column("least and largest ratio", "range"),
        ],
        [
            {
                "n": n,
                "count": count,
                **{way: statistics.median(found) for way, found in rates.items()},
                "ratio": statistics.median(ratios),
                "goal": _GOAL,
                "range": f"{min(ratios):.2f} … {max(ratios):.2f}",
            }
        ],
        [
            f"one request of random labellings, smc with its defaults; medians of {pairs} pairs of runs, in turns",
            f"{cores()} workers of one slot each, and as many processes; all values are equal to the bit",
            "kernel in the cache, processes warm",
        ],
    )


def _timed(server: Server, n: int, count: int, seed: int) -> tuple[float, list[float]]:
    """Return the seconds of a request, and its values."""
    body: dict[str, Any] = {
        "dataset": {"kind": "digits", "n": n},
        "labellings": [{"kind": "random", "seed": 10**6 * seed + i} for i in range(count)],
    }
    with server.http() as http:
        began = time.perf_counter()
        job = http.post("/v1/estimates", json=body).raise_for_status().json()
        while job["state"] in ("accepted", "running"):
            job = http.get(f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=30"}).raise_for_status().json()
        seconds = time.perf_counter() - began
        assert job["state"] == "successful", job
        results = http.get(f"/v1/jobs/{job['id']}/results").json()["results"]
    return seconds, [row["log_p"] for row in results]


def _metrics(server: Server) -> str:
    with server.http() as http:
        return http.get("/metrics").text
