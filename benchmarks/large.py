"""The default estimate at the sizes people ask for, from images to log P, in a process of its own."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.fresh import fresh, peak_gb
from benchmarks.problems import ARCHITECTURE, LABELLINGS, data_note, inputs, sizes
from benchmarks.report import Column, Table, say
from benchmarks.timing import cholesky_seconds
from nngp_prior import kernel
from nngp_prior.data import label
from nngp_prior.errors import ResourceLimit
from nngp_prior.probability import compute, prepare, require_memory
from nngp_prior.schemas.specs.estimator import SMC

_LABELS = "threshold:5"
_LIMITS = {10_000: {"limit_s": 480.0, "limit_gb": 5.0}, 20_000: {"limit_gb": 16.0}}


def run(quick: bool) -> list[Table]:
    """One run at each size that the data and the memory allow."""
    wanted = (200, 300) if quick else (10_000, 20_000)
    rows, notes = [], [data_note(*wanted)]
    for n in sizes(*wanted):
        try:
            require_memory(n, SMC(), with_kernel=True)
        except ResourceLimit as error:
            notes.append(f"n = {n:,} left out: {error}")
            continue
        say(f"kernel and default estimate, n = {n:,}")
        row: dict[str, Any] = {"n": n, **fresh(kernel_and_estimate, n, time_cholesky=True), **_LIMITS.get(n, {})}
        row["whole_s"] = row["prepare_s"] + row["estimate_s"]
        row["ratio"] = row["whole_s"] / row["cholesky_s"]
        rows.append(row)
    return [_table(rows, notes)]


def kernel_and_estimate(n: int, time_cholesky: bool = False) -> dict[str, Any]:
    """Load, kernel and default estimate in this process; the peaks along the way.

    Args:
        n: number of images.
        time_cholesky: also factor K, when all else is done and the peak noted.

    Returns:
        seconds of each step, peaks in GB, and the estimate.
    """
    data = inputs(n)
    y = label(LABELLINGS[_LABELS], data.classes)
    before = peak_gb()
    times = [time.perf_counter()]
    K = kernel(ARCHITECTURE, data.X)
    times.append(time.perf_counter())
    after_kernel = peak_gb()
    estimator = SMC()
    prepared = prepare(K, estimator)
    times.append(time.perf_counter())
    estimate = compute(prepared, y, estimator)
    times.append(time.perf_counter())
    peak, matrix = peak_gb(), K.nbytes / 1e9
    del prepared
    return {
        "kernel_s": times[1] - times[0],
        "prepare_s": times[2] - times[1],
        "estimate_s": times[3] - times[2],
        "before_gb": before,
        "after_kernel_gb": after_kernel,
        "peak_gb": peak,
        "matrix_gb": matrix,
        "peak_ratio": peak / matrix,
        "labels": _LABELS,
        "log_p": estimate.value,
        "stderr": estimate.stderr,
        "status": estimate.status,
        "cholesky_s": cholesky_seconds(K, repeats=2) if time_cholesky else None,
    }


def _table(rows: list[dict[str, Any]], notes: list[str]) -> Table:
    return Table(
        "Large n: the default estimate in a fresh process",
        [
            Column("n", "n"),
            Column("labels", "labels"),
            Column("log P (smc)", "log_p", error="stderr"),
            Column("stderr", "stderr"),
            Column("status", "status"),
            Column("kernel, s", "kernel_s"),
            Column("prepare, s", "prepare_s"),
            Column("estimate, s", "estimate_s"),
            Column("whole, s", "whole_s"),
            Column("limit, s", "limit_s"),
            Column("Cholesky, s", "cholesky_s"),
            Column("whole / Cholesky", "ratio"),
            Column("K, GB", "matrix_gb"),
            Column("peak after the kernel, GB", "after_kernel_gb", ".2f"),
            Column("peak of the process, GB", "peak_gb", ".2f"),
            Column("limit, GB", "limit_gb"),
        ],
        rows,
        [
            *notes,
            "whole: prepare and estimate, one run without warm-up; the kernel (compilation included) is timed apart; "
            "Cholesky: the best of at least two, in the same process",
            "peak resident memory of everything in the process: imports, images, K, estimate",
        ],
    )
