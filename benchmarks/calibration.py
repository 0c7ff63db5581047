"""Is the error bar right? Many seeds on one problem: how often the interval covers, and whether the bound holds.

One process a core, each with one BLAS thread: at small n two threads of one run share badly. Truth is a closed form,
or a run with many more particles, whose own error is added to the claimed ones.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.queues import SimpleQueue
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.comparisons import Truth, covers, long_run
from benchmarks.problems import datasets
from benchmarks.report import Column, Table, say
from nngp_prior import Estimate
from nngp_prior.numerics.threads import cores
from nngp_prior.probability import FactoredKernel, compute, prepare
from nngp_prior.schemas.specs.estimator import SMC
from tests.cases import CALIBRATION, Case
from tests.skewed_cases import SKEWED

DELTA = 0.05
_TOLD_EVERY = 50
_PARTICLES = 1024  # of the long run, a replicate


def run(quick: bool) -> list[Table]:
    """All cases that there is data for."""
    seeds, replicates = (8, 16) if quick else (300, 256)
    rows = []
    for name, make in CALIBRATION.items():
        if "MNIST" in name and "mnist" not in datasets():
            say(f"no MNIST without NNGP_DATA: {name} is left out")
            continue
        rows.append({"case": name, **study(make(), seeds, replicates, name)})
    return [_table("Calibration: default estimates with many seeds", rows)]


def run_skewed(quick: bool) -> list[Table]:
    """Cases whose weights are skewed."""
    seeds, replicates = (4, 16) if quick else (300, 256)
    rows = [{"case": name, **study(make(), seeds, replicates, name)} for name, make in SKEWED.items()]
    return [_table("Calibration: smooth kernels, few factors, short ranges, negative correlations", rows)]


def study(case: Case, seeds: int, replicates: int, name: str) -> dict[str, Any]:
    """Default estimates with many seeds against the truth.

    Args:
        case: the problem.
        seeds: how many runs.
        replicates: of the long run, where the truth is not known.
        name: what to say is running.

    Returns:
        the truth, and statistics of the runs.
    """
    began = time.perf_counter()
    if case.truth is None:
        say(f"long run: {name}")
        truth = long_run(case.K, case.labels, _PARTICLES, replicates)
    else:
        truth = Truth(case.truth)
    estimates = []
    for seed, estimate in enumerate(_estimates(case, seeds), 1):
        estimates.append(estimate)
        if seed % _TOLD_EVERY == 0:
            say(f"{name}: {seed} of {seeds} seeds")
    values = np.array([estimate.value for estimate in estimates])
    errors = np.array([estimate.stderr for estimate in estimates], dtype=float)
    bounds = np.array([estimate.lower_bound(DELTA) for estimate in estimates], dtype=float)
    z = (values - truth.value) / np.hypot(errors, truth.stderr)
    covered = np.array([covers(estimate, truth) for estimate in estimates])
    ok = np.array([estimate.status == "ok" for estimate in estimates])
    return {
        "n": len(case.labels),
        "seeds": seeds,
        "truth": truth.value,
        "truth_stderr": truth.stderr,
        "mean_stderr": errors.mean(),
        "sd": values.std(ddof=1),
        "coverage": covered.mean(),
        "coverage_ok": covered[ok].mean() if ok.any() else None,
        "ok": int(ok.sum()),
        "z_mean": z.mean(),
        "z_sd": z.std(ddof=1),
        "particles": float(np.mean([estimate.diagnostics["particles"] for estimate in estimates])),
        "bound_failures": int(np.sum(bounds > truth.value + 4 * truth.stderr)),
        "bound_gap": float(np.median(truth.value - bounds)),
        "seconds_each": float(np.median([estimate.seconds for estimate in estimates])),
        "seconds": time.perf_counter() - began,
    }


def _estimates(case: Case, seeds: int) -> Iterator[Estimate]:
    context = multiprocessing.get_context("spawn")
    processors = context.SimpleQueue()
    for processor in _processors():
        processors.put(processor)
    start = (case.K, case.labels, processors)
    with ProcessPoolExecutor(cores(), mp_context=context, initializer=_Worker.start, initargs=start) as pool:
        yield from pool.map(_Worker.run, range(seeds))


def _processors() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(cores()))


class _Worker:
    """One process's problem: the kernel is sent and prepared once, not for each seed."""

    kernel: FactoredKernel
    labels: np.ndarray

    @classmethod
    def start(cls, K: np.ndarray, labels: np.ndarray, processors: SimpleQueue[int]) -> None:
        """Take a processor, on which smc then uses one thread, and prepare the kernel."""
        processor = processors.get()
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {processor})
        threadpool_limits(1)
        cls.kernel, cls.labels = prepare(K, SMC()), labels

    @classmethod
    def run(cls, seed: int) -> Estimate:
        """One default estimate."""
        return compute(cls.kernel, cls.labels, SMC(), seed)


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    return Table(
        title,
        [
            Column("case", "case"),
            Column("seeds", "seeds"),
            Column("truth", "truth", ".4f", error="truth_stderr"),
            Column("mean claimed stderr", "mean_stderr", ".5f"),
            Column("sd of the estimates", "sd", ".5f"),
            Column("coverage of the 95% interval", "coverage", ".3f"),
            Column("status ok", "ok"),
            Column("coverage where ok", "coverage_ok", ".3f"),
            Column("z, mean", "z_mean", "+.2f"),
            Column("z, sd", "z_sd", ".2f"),
            Column(f"bound fails, δ = {DELTA:g}", "bound_failures"),
            Column("bound under the truth, nats", "bound_gap", ".3f"),
            Column("particles, mean", "particles", ".0f"),
            Column("seconds, median", "seconds_each", ".3f"),
        ],
        rows,
        [
            f"coverage: {np.mean([row['coverage'] for row in rows]):.3f} over all, least "
            f"{min(row['coverage'] for row in rows):.3f}; Student's t with 31 degrees of freedom has a standard "
            "deviation of 1.03",
            "z: error over claimed stderr, with the truth's own where that is from a long run",
        ],
    )
