"""Kill -9 of workers and of the whole service, again and again, while jobs of minutes are computed.

What was stored before a kill must be stored after it, unchanged; at the end every labelling has the library's value to
the bit, and no row carries the blame for a kill.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.problems import ARCHITECTURE
from benchmarks.report import Column, Table, say
from nngp_prior import kernel, log_probabilities
from nngp_prior.data import label, load
from nngp_prior.schemas.specs.data import Digits, RandomLabels
from tests.system.server import Server, wait_for

_N = 200
_PATIENCE = 600.0  # seconds without a new row before it is given up


class _Jobs:
    """Jobs of a server, and all rows of theirs that were ever seen.

    Args:
        server: that has them.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.bodies: dict[str, dict[str, Any]] = {}
        self.seen: dict[tuple[str, int], Any] = {}
        self.changed = 0

    def post(self, seed: int, count: int, **estimator: Any) -> None:
        labellings = [{"kind": "random", "seed": i} for i in range(count)]
        body = {"dataset": {"kind": "digits", "n": _N}, "labellings": labellings, "seed": seed}
        body |= {"architecture": ARCHITECTURE.model_dump(mode="json"), "estimator": {"kind": "smc", **estimator}}
        with self.server.http() as http:
            self.bodies[http.post("/v1/estimates", json=body).raise_for_status().json()["id"]] = body

    def look(self) -> int:
        """Compare all rows with those seen before.

        Returns:
            how many there are.
        """
        with self.server.http() as http:
            for job_id in self.bodies:
                results = http.get(f"/v1/jobs/{job_id}/results?partial=true").raise_for_status().json()["results"]
                found = {(job_id, row["labelling"]): row for row in results}
                self.changed += len(results) - len(found)  # doubled
                self.changed += sum(found.get(key) != row for key, row in self.seen.items() if key[0] == job_id)
                self.seen |= found
        return len(self.seen)

    def stages(self) -> list[Any]:
        with self.server.http() as http:
            return [http.get(f"/v1/jobs/{job_id}").json()["progress"]["stage"] for job_id in self.bodies]

    def losses(self) -> int:
        with self.server.http() as http:
            return sum(http.get(f"/v1/jobs/{job_id}").json()["losses"] for job_id in self.bodies)


def run(quick: bool) -> list[Table]:
    """First kills of workers, which are losses; then kills of the service, also while single rows take minutes."""
    of_workers, of_service, count, replicates = (4, 4, 150, 2_000) if quick else (40, 60, 900, 10_000)
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder)).start()
        try:
            jobs = _Jobs(server)
            jobs.post(0, count)
            began = time.perf_counter()
            for kills in range(of_workers):
                say(f"kill {kills + 1} of {of_workers} of workers")
                before = jobs.look()
                # A few rows later, so that no unit sees as many deaths as a row may have before it is blamed.
                wait_for(lambda before=before: jobs.look() >= min(before + 5, count), _PATIENCE, server.log)
                rng.choice(server.workers).kill()
            losses = jobs.losses()
            jobs.post(1, count)
            for seed in (2, 3):
                jobs.post(seed, 1, replicates=replicates)
            for kills in range(of_service):
                wait_for(lambda: any(jobs.stages()), _PATIENCE, server.log)
                time.sleep(rng.uniform(0.0, 1.0))
                say(f"kill {kills + 1} of {of_service} of the service, {jobs.look():,} rows")
                server.kill()
                server.start()
            total = sum(len(body["labellings"]) for body in jobs.bodies.values())
            while (before := jobs.look()) < total:
                wait_for(lambda before=before: jobs.look() > before, _PATIENCE, server.log)
            seconds = time.perf_counter() - began
            jobs.look()
            row = {"workers": of_workers, "service": of_service, "jobs": len(jobs.bodies), "rows": total}
            row |= {"losses": losses, "losses_of_service": jobs.losses() - losses, "changed": jobs.changed}
            row |= {"marked": sum(each["status"] == "worker-crashed" for each in jobs.seen.values())}
            row |= {"missing": total - len(jobs.seen), "different": _different(jobs), "seconds": seconds}
        finally:
            server.kill()
    return [_table(row)]


def _different(jobs: _Jobs) -> int:
    """How many values are not the library's own."""
    say("the library's own values")
    data = load(Digits(n=_N))
    K = kernel(ARCHITECTURE, data.X)
    wrong = 0
    for job_id, body in jobs.bodies.items():
        Y = np.stack([label(RandomLabels(seed=each["seed"]), data.classes) for each in body["labellings"]])
        options = {name: value for name, value in body["estimator"].items() if name != "kind"}
        for place, estimate in enumerate(log_probabilities(K, Y, seed=body["seed"], **options)):
            wrong += jobs.seen[job_id, place]["log_p"] != estimate.value
    return wrong


def _table(row: dict[str, Any]) -> Table:
    return Table(
        "Kill -9 of workers and of the service",
        [
            Column("kills of workers", "workers"),
            Column("of the service", "service"),
            Column("jobs", "jobs"),
            Column("labellings", "rows"),
            Column("losses by the first", "losses"),
            Column("by the second", "losses_of_service"),
            Column("marked", "marked"),
            Column("missing", "missing"),
            Column("changed or doubled", "changed"),
            Column("not the library's value", "different"),
            Column("s", "seconds", ",.0f"),
        ],
        [row],
        [
            f"smc, n = {_N}; two of the jobs are one labelling each that takes longer than from one kill to the next",
            "kills of the service come up to 1 s after its workers have begun to compute again",
            "losses: workers that died while the service lived; marked: labellings with the status worker-crashed",
        ],
    )
