"""Requests at their extremes: peak memory of a service's worker against the plan that the request was admitted by.

Each request is planned as the service plans it, and computed by a new worker of the service. One beyond the memory that
may be taken is refused by its plan, or ended: that it is ended is the limit that holds whatever the plan.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from api.executors.base import Task
from api.executors.local import LocalExecutor
from api.executors.memory import WORKER_BYTES
from api.work import WORK, Limits
from benchmarks.report import Column, Table, say
from nngp_prior.errors import ResourceLimit
from nngp_prior.kernels.cache import KernelCache
from nngp_prior.numerics.threads import cores
from nngp_prior.prior.request_runner import RequestRunner

_LIMIT = 8 * 10**9  # bytes
_SECONDS = 400.0
_CONVOLUTIONAL: dict[str, Any] = {"kind": "convolutional"}
_POOLED = {**_CONVOLUTIONAL, "readout": "global-average-pool"}
_DIGITS = {"kind": "digits"}


def _smc(**options: Any) -> dict[str, Any]:
    return {"estimator": {"kind": "smc", **options}}


# Name, shape of the uploaded inputs (or a data set), number of classes, and the rest of the request.
CASES: list[tuple[str, Any, int, dict[str, Any]]] = [
    ("smc, defaults, n = 1,000", {**_DIGITS, "n": 1000}, 2, {}),
    ("smc, 100,000 particles, n = 20", {**_DIGITS, "n": 20}, 2, _smc(particles=10**5, replicates=2)),
    ("smc, 1,000,000 particles, n = 20", {**_DIGITS, "n": 20}, 2, _smc(particles=10**6, replicates=2)),
    ("smc, to 1e-4 with 1,000,000 replicates, n = 20", {**_DIGITS, "n": 20}, 2,
     _smc(target_stderr=1e-4, max_replicates=10**6, replicates=10**6)),
    ("ghk, 128 × 100,000 particles, n = 20", {**_DIGITS, "n": 20}, 2,
     {"estimator": {"kind": "ghk", "replicates": 10**5}}),
    ("bernstein-yue, 20,000,000 draws, n = 20", {**_DIGITS, "n": 20}, 2,
     {"estimator": {"kind": "bernstein-yue", "draws": 2 * 10**7}}),
    ("100 classes, n = 50", (50, 8), 100, {}),
    ("300 classes, n = 5", (5, 8), 300, {}),
    ("1,000 classes, n = 5", (5, 8), 1000, {}),
    ("flattened, 4 images of 1000 × 1000 × 3", (4, 1000, 1000, 3), 2, {"architecture": _CONVOLUTIONAL}),
    ("pooled, 4 images of 64 × 64", (4, 64, 64, 1), 2, {"architecture": _POOLED}),
    ("pooled, 4 images of 96 × 96", (4, 96, 96, 1), 2, {"architecture": _POOLED}),
    ("400 × 200,000 features", (400, 200_000), 2, {}),
    ("300 × 1,000,000 features", (300, 1_000_000), 2, {}),
]  # fmt: skip


def run(quick: bool, chosen: str = "") -> list[Table]:
    """All cases, one after another."""
    rows = []
    for name, data, classes, more in CASES[:3] if quick else CASES:
        if chosen in name:
            say(name)
            with tempfile.TemporaryDirectory() as folder:
                rows.append({"name": name, **_case(Path(folder), data, classes, more)})
            say(str(rows[-1]))
    return [_table(rows)]


def _case(home: Path, data: Any, classes: int, more: dict[str, Any]) -> dict[str, Any]:
    blobs, rng = home / "blobs", np.random.default_rng(0)
    if isinstance(data, tuple):
        data = {"kind": "blob", "sha256": _uploaded(blobs, rng.integers(0, 100, data, dtype=np.int8))}
    labelling: dict[str, Any] = {"kind": "random"}
    if classes > 2:
        inputs = np.load(next(blobs.rglob("*.npy")), mmap_mode="r")
        labels = rng.integers(0, classes, (1, len(inputs)), dtype=np.int16)
        labelling = {"kind": "blob", "sha256": _uploaded(blobs, labels)}
        more = {"estimator": {"kind": "smc", "classes": classes}}
    work = WORK["estimates"]
    request = work.request.model_validate({"dataset": data, "labellings": [labelling], **more})
    bench = RequestRunner(KernelCache(home / "kernels", 10**10), lambda sha: np.load(_path(blobs, sha), mmap_mode="r"))
    try:
        plan = work.plan(request, bench, Limits(cores(), _LIMIT))
    except ResourceLimit as error:
        return {"outcome": f"refused: {error}"}
    (chunk,) = plan.chunks
    executor = LocalExecutor(1, home=home, blobs=blobs, task_seconds=_SECONDS, memory_limit=_LIMIT + WORKER_BYTES)
    try:
        heard = _Listener()
        task = Task(1, "estimates", request.model_dump(mode="json"), chunk.rows, chunk.cores, chunk.bytes)
        done, peak = threading.Event(), [0]

        def watch() -> None:
            (pid,) = executor.pids()
            while not done.wait(0.02):
                try:
                    peak[0] = max(peak[0], psutil.Process(pid).memory_info().rss)
                except psutil.Error:
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        began = time.perf_counter()
        outcome = executor.run(task, heard)
        seconds = time.perf_counter() - began
        done.set()
        watcher.join()
    finally:
        executor.close()
    planned = chunk.bytes + WORKER_BYTES
    return {
        "outcome": heard.status or type(outcome).__name__.lower(),
        "planned": planned / 1e9,
        "peak": peak[0] / 1e9,
        "ratio": peak[0] / planned,
        "planned_s": chunk.seconds,
        "seconds": seconds,
    }


class _Listener:
    """Hears of the one row."""

    status = ""

    def rows(self, rows: list[tuple[int, dict[str, Any]]]) -> None:
        self.status = rows[-1][1]["status"]

    def progress(self, stage: str, done: int, total: int) -> None:
        pass


def _uploaded(blobs: Path, array: np.ndarray) -> str:
    blobs.mkdir(exist_ok=True)
    np.save(blobs / "new.npy", array)
    with (blobs / "new.npy").open("rb") as file:
        sha = hashlib.file_digest(file, "sha256").hexdigest()
    _path(blobs, sha).parent.mkdir(exist_ok=True)
    (blobs / "new.npy").rename(_path(blobs, sha))
    return sha


def _path(blobs: Path, sha: str) -> Path:
    return blobs / sha[:2] / f"{sha}.npy"


def _table(rows: list[dict[str, Any]]) -> Table:
    measured = [row["ratio"] for row in rows if "ratio" in row]
    return Table(
        "Memory of the service's workers at the extremes of requests",
        [
            Column("request", "name"),
            Column("planned, GB", "planned", ".2f"),
            Column("peak, GB", "peak", ".2f"),
            Column("peak / planned", "ratio", ".2f"),
            Column("planned, s", "planned_s"),
            Column("measured, s", "seconds"),
            Column("outcome", "outcome"),
        ],
        rows,
        [
            f"planned: with {WORKER_BYTES / 1e9:.2f} GB that a worker takes before it computes; {_LIMIT / 1e9:.0f} GB "
            "are allowed beside that",
            f"largest ratio {max(measured, default=0.0):.2f}; 1.2 is allowed",
        ],
    )
