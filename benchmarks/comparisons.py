"""Estimates beside a truth: the rows, columns and summaries that the accuracy tables share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from benchmarks.report import Column
from nngp_prior import Estimate, log_probability
from nngp_prior.errors import NngpPriorError

_LEVEL, _DELTA = 0.95, 0.01
_NORMAL = 1.96
_CLAIMING = ("smc", "ghk")  # an error bar to be judged
_SILENT = ("ep", "ep2")
METHODS = (*_CLAIMING, *_SILENT, "bernstein-yue")


class Truth(NamedTuple):
    """log P from a closed form, or from a long run.

    Attributes:
        value: in nats.
        stderr: 0 if exact.
        status: of the run that it comes from.
    """

    value: float
    stderr: float = 0.0
    status: str = "ok"


def exact(K: np.ndarray, y: np.ndarray, **options: Any) -> Truth:
    """From the closed form."""
    return Truth(log_probability(K, y, method="closed-form", **options).value)


def long_run(K: np.ndarray, y: np.ndarray, particles: int, replicates: int, **options: Any) -> Truth:
    """From smc with many particles, and random numbers of its own."""
    options |= {"particles": particles, "replicates": replicates, "max_replicates": replicates}
    estimate = log_probability(K, y, seed=10**6, **options)
    assert estimate.stderr is not None
    return Truth(estimate.value, estimate.stderr, estimate.status)


@contextmanager
def refused(method: str, reasons: set[str]) -> Iterator[None]:
    """Go on where a method refuses its input, with the reason noted."""
    try:
        yield
    except NngpPriorError as error:
        reasons.add(f"{method} ({error})")


def covers(estimate: Estimate, truth: Truth) -> bool:
    """Whether the 95 % interval has the truth in it, once it is widened by the truth's own error."""
    interval = estimate.interval(_LEVEL)
    assert interval is not None
    half_widths = np.abs(np.array(interval) - estimate.value)
    wider = np.hypot(half_widths, _NORMAL * truth.stderr)
    return estimate.value - wider[0] <= truth.value <= estimate.value + wider[1]


def compare(
    K: np.ndarray, y: np.ndarray, truth: Truth, methods: Iterable[str] = METHODS, **options: Any
) -> dict[str, Any]:
    """Methods against the truth: errors in nats and in standard errors, bounds, and how each run ended.

    Args:
        K: kernel matrix.
        y: -1 and +1.
        truth: log P.
        methods: which.
        **options: that all of them take. Cases whose errors are to be independent need different seeds: the same
            labels have the same random numbers otherwise.

    Returns:
        a row; what a method that refuses would have given is absent.
    """
    row: dict[str, Any] = {"truth": truth.value, "truth_stderr": truth.stderr}
    statuses = {"long run": truth.status}
    for method in methods:
        reasons: set[str] = set()
        statuses[method] = "refused"
        with refused(method, reasons):
            estimate = log_probability(K, y, method=method, **options)
            statuses[method] = row[f"{method}_status"] = estimate.status
            row[method] = estimate.value
            row[f"{method}_error"] = estimate.value - truth.value
            row[f"{method}_s"] = estimate.seconds
            row |= _claims(estimate, truth)
        if reasons:
            row[f"{method}_status"] = "; ".join(reasons)
    return row | {"not_ok": _grouped(statuses)}


def columns(wanted: Iterable[str] = METHODS) -> list[Column]:
    """Those of :func:`compare`, from the truth on."""
    found = {
        "smc": [
            Column("smc", "smc", error="smc_stderr"),
            Column("error, nats", "smc_error", "+.4f"),
            Column("error / stderr", "smc_z", "+.1f"),
            Column("99% lower bound", "smc_bound", ".3f"),
        ],
        "ep": [Column("ep's error", "ep_error", "+.4f")],
        "ep2": [Column("ep2's error", "ep2_error", "+.4f")],
        "ghk": [
            Column("ghk's error", "ghk_error", "+.4f", error="ghk_stderr"),
            Column("ghk's error / stderr", "ghk_z", "+.1f"),
        ],
        "bernstein-yue": [Column("Bernstein-Yue's certain bound", "bernstein-yue_bound", ".2f")],
    }
    chosen = [column for method, own in found.items() if method in wanted for column in own]
    return [Column("truth", "truth", ".4f", error="truth_stderr"), *chosen, Column("not ok", "not_ok")]


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """Claims and errors over all rows, and over those whose status is ``ok``."""
    notes = []
    for method in _CLAIMING:
        judged = [row for row in rows if f"{method}_z" in row]
        ok = [row for row in judged if row[f"{method}_status"] == "ok"]
        for name, chosen in (("all", judged), ("with status ok", ok)):
            if chosen:
                notes.append(f"{method}, {name}: {_standardised(method, chosen)}")
    for method in (*_CLAIMING, *_SILENT):
        judged = [row for row in rows if f"{method}_error" in row]
        ok = [row for row in judged if row[f"{method}_status"] == "ok"]
        if judged:
            notes.append(f"{method}: largest error {_largest(method, judged)}; with status ok {_largest(method, ok)}")
    for method, name in (("smc", "99% lower bound"), ("bernstein-yue", "certain bound")):
        gaps = np.array([row["truth"] - row[f"{method}_bound"] for row in rows if f"{method}_bound" in row])
        slack = np.array([4 * row["truth_stderr"] for row in rows if f"{method}_bound" in row])
        if len(gaps):
            notes.append(
                f"{method}'s {name} is under the truth in {np.sum(gaps >= -slack)} of {len(gaps)} cases, by "
                f"{np.median(gaps):.2f} nats in the median"
            )
    return notes


def _claims(estimate: Estimate, truth: Truth) -> dict[str, Any]:
    """What a method says of its own error, and how that compares."""
    name = estimate.method
    if name == "bernstein-yue":
        return {f"{name}_bound": estimate.diagnostics["c1_optimal_scale"]}
    if estimate.stderr is None or math.isinf(estimate.stderr):
        return {}
    return {
        f"{name}_stderr": estimate.stderr,
        f"{name}_z": (estimate.value - truth.value) / math.hypot(estimate.stderr, truth.stderr),
        f"{name}_covers": covers(estimate, truth),
        f"{name}_bound": estimate.lower_bound(_DELTA),
    }


def _grouped(statuses: dict[str, str]) -> str:
    """Methods by status, where it is not ``ok``."""
    found = dict.fromkeys(status for status in statuses.values() if status != "ok")
    groups = (f"{', '.join(m for m, s in statuses.items() if s == status)}: {status}" for status in found)
    return "; ".join(groups)


def _standardised(method: str, rows: list[dict[str, Any]]) -> str:
    z = np.array([row[f"{method}_z"] for row in rows])
    coverage = np.mean([row[f"{method}_covers"] for row in rows])
    return (
        f"error / stderr over {len(z)} cases: mean {z.mean():+.2f}, root mean square {np.sqrt(np.mean(z**2)):.2f}, "
        f"largest {np.abs(z).max():.1f}; the 95% interval covers {coverage:.0%}"
    )


def _largest(method: str, rows: list[dict[str, Any]]) -> str:
    errors = [abs(row[f"{method}_error"]) for row in rows]
    return f"{max(errors):.4f} nats over {len(errors)} cases" if errors else "none"
