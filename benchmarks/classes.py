"""Labels of ten classes: the default estimate and EP, on the classes themselves, redrawn ones and one class for all."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.cholesky import Rates, floor, measure_rates
from benchmarks.problems import data_note, inputs, problem, sizes
from benchmarks.report import Column, Table, say
from benchmarks.timing import measure
from nngp_prior import log_probability
from nngp_prior.data import label
from nngp_prior.schemas.specs.data import Classes, Randomise

_CLASSES = 10
_DELTA = 0.01


def run(quick: bool) -> list[Table]:
    """All labellings of few inputs, the classes themselves of more."""
    wanted = (30, 60) if quick else (200, 1000)
    rates, rows = measure_rates(), []
    for n in sizes(*wanted):
        labellings = _labellings(n)
        for name in labellings if n == wanted[0] else ["classes"]:
            say(f"smc and ep with {_CLASSES} classes, n = {n:,}, {name}")
            rows.append({"n": n, "labels": name, **_row(problem(n).K, labellings[name], rates)})
    return [_table(rows, data_note(*wanted))]


def _labellings(n: int) -> dict[str, np.ndarray]:
    data = inputs(n)
    random = Classes(corruption=Randomise(probability=1.0))
    return {
        "classes": label(Classes(), data.classes, data.known_classes),
        "random": label(random, data.classes, data.known_classes),
        "constant": np.zeros(n, dtype=int),
    }


def _row(K: np.ndarray, labels: np.ndarray, rates: Rates) -> dict[str, Any]:
    smc, smc_seconds = measure(lambda: log_probability(K, labels, classes=_CLASSES))
    ep, ep_seconds = measure(lambda: log_probability(K, labels, classes=_CLASSES, method="ep"))
    least = floor(smc, rates)
    return {
        "classes": _CLASSES,
        "constraints": smc.diagnostics["rank"],
        "log_p": smc.value,
        "stderr": smc.stderr,
        "lower_bound": smc.lower_bound(_DELTA),
        "status": smc.status,
        "diagnostics": smc.diagnostics,
        "ep": ep.value,
        "ep_minus_smc": ep.value - smc.value,
        "ep_status": ep.status,
        "smc_s": smc_seconds,
        "ep_s": ep_seconds,
        **least,
        "ratio": smc_seconds / least["floor_s"],
    }


def _table(rows: list[dict[str, Any]], note: str) -> Table:
    return Table(
        f"Labels of {_CLASSES} classes",
        [
            Column("n", "n"),
            Column("labels", "labels"),
            Column("constraints", "constraints"),
            Column("log P (smc)", "log_p", error="stderr"),
            Column("stderr", "stderr"),
            Column("status", "status"),
            Column("lower bound", "lower_bound", ".2f"),
            Column("ep - smc, nats", "ep_minus_smc", "+.2f"),
            Column("ep status", "ep_status"),
            Column("smc, s", "smc_s"),
            Column("ep, s", "ep_s"),
            Column("sweeps, Gflop", "sweeps_gflop"),
            Column("factors, Gflop", "factors_gflop"),
            Column("particles, Gflop", "particles_gflop"),
            Column("floor, s", "floor_s"),
            Column("smc / floor", "ratio"),
        ],
        rows,
        [
            note,
            f"lower bound: holds with probability {1 - _DELTA:g}",
            "floor: the operations of the estimate, leading terms, at the speed of matrix products",
        ],
    )
