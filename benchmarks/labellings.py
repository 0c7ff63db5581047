"""Many labellings of the same inputs: what one costs when the kernel is checked and factored once for all."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import numpy as np

from benchmarks.problems import LABELLINGS, data_note, inputs, problem
from benchmarks.report import Column, Table, say
from benchmarks.timing import cholesky_seconds, measure
from nngp_prior import log_probabilities, log_probability
from nngp_prior.data import label
from nngp_prior.schemas.specs.data import Flip, RandomLabels

_TOLD_EVERY = 100


def run(quick: bool) -> list[Table]:
    """smc and ep, on random labellings and on threshold:5 with a tenth of the labels flipped."""
    n, count = (200, 20) if quick else (500, 1000)
    K = problem(n).K
    unit = cholesky_seconds(K)
    rows = []
    for name, Y in labellings(n, count).items():
        for method in ("smc", "ep"):
            alone_s = measure(lambda method=method, y=Y[0]: log_probability(K, y, method=method)).seconds
            together = run_all(K, Y, method, f"{method}, {name}")
            each_s = together["total_s"] / count
            rows.append(
                {
                    "n": n,
                    "labels": name,
                    "count": count,
                    "method": method,
                    **together,
                    "each_s": each_s,
                    "alone_s": alone_s,
                    "cholesky_s": unit,
                    "each_ratio": each_s / unit,
                    "alone_ratio": alone_s / unit,
                    "each_over_alone": each_s / alone_s,
                }
            )
    return [_table(rows, data_note(n))]


def labellings(n: int, count: int) -> dict[str, np.ndarray]:
    """(count, n) labels of each kind."""
    classes = inputs(n).classes
    threshold = LABELLINGS["threshold:5"]
    flips = (Flip(count=n // 10, seed=seed) for seed in range(count))
    return {
        "random": np.stack([label(RandomLabels(seed=seed), classes) for seed in range(count)]),
        "threshold:5, 10% flipped": np.stack(
            [label(threshold.model_copy(update={"corruption": flip}), classes) for flip in flips]
        ),
    }


def run_all(K: np.ndarray, Y: np.ndarray, method: str, what: str) -> dict[str, Any]:
    """One batch, checks and factorisation of K included."""
    began = time.perf_counter()
    estimates = []
    for row, estimate in log_probabilities(K, Y, method=method, as_completed=True):
        estimates.append(estimate)
        if row % _TOLD_EVERY == 0:
            say(f"{what}, {row:,} of {len(Y):,}")
    seconds = time.perf_counter() - began
    statuses = Counter(estimate.status for estimate in estimates)
    errors = [estimate.stderr for estimate in estimates if estimate.stderr is not None]
    values = np.array([estimate.value for estimate in estimates])
    return {
        "total_s": seconds,
        "mean_log_p": values.mean(),
        "sd_log_p": values.std(),
        "median_stderr": np.median(errors) if errors else None,
        "statuses": ", ".join(f"{number:,} {status}" for status, number in statuses.most_common()),
    }


def _table(rows: list[dict[str, Any]], note: str) -> Table:
    return Table(
        "Many labellings of the same inputs",
        [
            Column("n", "n"),
            Column("labels", "labels"),
            Column("labellings", "count"),
            Column("method", "method"),
            Column("mean log P", "mean_log_p", ".2f"),
            Column("sd", "sd_log_p", ".2f"),
            Column("median stderr", "median_stderr"),
            Column("statuses", "statuses"),
            Column("all, s", "total_s"),
            Column("each, s", "each_s"),
            Column("one alone, s", "alone_s"),
            Column("Cholesky, s", "cholesky_s"),
            Column("each / Cholesky", "each_ratio"),
            Column("alone / Cholesky", "alone_ratio"),
            Column("each / alone", "each_over_alone"),
        ],
        rows,
        [
            note,
            "all: log_probabilities(as_completed=True), checks and factorisation of K included; alone: log_probability "
            "of the first labelling",
        ],
    )
