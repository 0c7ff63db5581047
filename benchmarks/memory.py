"""What each method says that it needs of memory and time, against the peak of a fresh process that runs it.

The kernel is read from a file, so that nothing but it and the libraries is in the process before the estimate starts.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.comparisons import refused
from benchmarks.fresh import fresh, peak_gb, resident_gb
from benchmarks.problems import data_note, problem, sizes
from benchmarks.report import Column, Table, say
from nngp_prior import Cost, estimate_cost, log_probability
from tests.cases import product_correlated

_LABELS = "threshold:5"
# K's mean variance is 1. The number of draws makes no difference to the peak: they come in chunks.
_METHODS: dict[str, dict[str, Any]] = {
    "smc": {},
    "ep": {},
    "ep2": {},
    "laplace": {"noise_variance": 1.0},
    "ghk": {},
    "bernstein-yue": {},
    "sampling": {"draws": 10_000},
    "closed-form": {},
}


def run(quick: bool) -> list[Table]:
    """Every method at every size; those that refuse are left out, with a note."""
    wanted = (200, 300) if quick else (1000, 2000, 4000)
    rows, left_out = [], set()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.npy"
        for n in sizes(*wanted):
            for method, options in _METHODS.items():
                say(f"memory of {method}, n = {n:,}")
                exact = method == "closed-form"
                np.save(path, product_correlated(n) if exact else problem(n).K)
                labels = np.ones(n, dtype=int) if exact else problem(n).labels[_LABELS]
                with refused(method, left_out):
                    cost = estimate_cost(n, method, **options)
                    measured = fresh(run_method, path, labels, method, options)
                    rows.append({"n": n, "method": method, **_compare(n, cost, measured)})
    return [_table(rows, data_note(*wanted), left_out)]


def run_method(path: Path, labels: np.ndarray, method: str, options: dict[str, Any]) -> dict[str, float]:
    """One estimate in this process: memory before it, the peak, and seconds."""
    K = np.load(path)
    before = resident_gb()
    began = time.perf_counter()
    log_probability(K, labels, method=method, **options)
    return {"before_gb": before, "peak_gb": peak_gb(), "seconds": time.perf_counter() - began}


def _compare(n: int, cost: Cost, measured: dict[str, float]) -> dict[str, float]:
    added = measured["peak_gb"] - measured["before_gb"]
    return {
        **measured,
        "added_gb": added,
        "stated_gb": cost.bytes / 1e9,
        "ratio": added / (cost.bytes / 1e9),
        "stated_s": cost.seconds,
        "time_ratio": measured["seconds"] / cost.seconds,
        "matrices": added * 1e9 / (8 * n * n),
    }


def _table(rows: list[dict[str, Any]], note: str, left_out: set[str]) -> Table:
    largest = max(row["n"] for row in rows)
    notes = [
        f"{note}; labels {_LABELS}; closed-form: product correlation, all labels positive",
        "added: the peak over what was resident with K and the libraries loaded; it is to be at most what "
        f"estimate_cost states: it is in {sum(row['ratio'] <= 1 for row in rows)} of {len(rows)} cases, "
        f"largest ratio {max(row['ratio'] for row in rows):.2f}",
        "seconds: the first estimate of a process, with about 2 s for importing and compiling JAX in smc and ghk",
        f"n × n float64 arrays beside K at n = {largest:,}: "
        + ", ".join(f"{row['method']} {row['matrices']:.2f}" for row in rows if row["n"] == largest),
    ]
    return Table(
        "Memory and time: measured against estimate_cost",
        [
            Column("n", "n"),
            Column("method", "method"),
            Column("before, GB", "before_gb", ".3f"),
            Column("added, GB", "added_gb", ".3f"),
            Column("stated, GB", "stated_gb", ".3f"),
            Column("added / stated", "ratio", ".2f"),
            Column("added / (8 n²)", "matrices", ".2f"),
            Column("measured, s", "seconds"),
            Column("stated, s", "stated_s"),
            Column("measured / stated", "time_ratio", ".2f"),
        ],
        rows,
        notes + [f"left out: {reason}" for reason in sorted(left_out)],
    )
