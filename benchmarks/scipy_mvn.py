"""Against SciPy's multivariate normal distribution function: P(-y f < 0), the same number, from the standard library.

``scipy.stats.multivariate_normal.cdf`` is separation of variables on lattice points (Genz). Its error control is
absolute, which says nothing of a probability of 1e-30, and it returns no error; a row with ``abseps=0`` and a cap on
the points shows what more time buys. The truth is a long run of ``smc`` with random numbers of its own.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import multivariate_normal

from benchmarks.problems import data_note, problem, sizes
from benchmarks.report import Column, Table, say
from benchmarks.timing import measure
from nngp_prior import log_probability

_LABELS = "threshold:5"
_LONG = 512
_ABSEPS = 1e-5  # SciPy's default
_POINTS = 20_000  # an input, for abseps = 0
_LARGEST_CAPPED = 100


def run(quick: bool) -> list[Table]:
    """Value, error and time of SciPy and of smc, against a long smc run."""
    wanted = (10, 20) if quick else (20, 50, 100, 200)
    rows = []
    for n in sizes(*wanted):
        say(f"SciPy and smc, n = {n:,}")
        K, y = problem(n).K, problem(n).labels[_LABELS]
        truth = log_probability(K, y, replicates=_LONG, max_replicates=_LONG, seed=1)
        smc, smc_seconds = measure(lambda K=K, y=y: log_probability(K, y))
        assert smc.stderr is not None
        common = {"n": n, "long_run": truth.value, "long_run_stderr": truth.stderr}
        ours = {"method": "smc", "log_p": smc.value, "error": abs(smc.value - truth.value), "claimed": smc.stderr}
        rows.append(common | ours | {"seconds": smc_seconds, "ratio": 1.0})
        variants: dict[str, dict[str, Any]] = {"scipy": {}}
        if n <= _LARGEST_CAPPED:
            variants["scipy, abseps=0"] = {"abseps": 0.0, "maxpts": _POINTS * n}
        for name, options in variants.items():
            log_p, seconds = measure(lambda K=K, y=y, options=options: scipy_log_p(K, y, **options))
            claimed = None if options else math.log1p(_ABSEPS / math.exp(truth.value))
            theirs = {"method": name, "log_p": log_p, "error": abs(log_p - truth.value), "claimed": claimed}
            rows.append(common | theirs | {"seconds": seconds, "ratio": seconds / smc_seconds})
    return [_table(rows, wanted)]


def scipy_log_p(K: np.ndarray, y: np.ndarray, **options: Any) -> float:
    """log Pr[-y_i f_i < 0 for all i] by SciPy."""
    covariance = K * np.outer(y, y)
    with np.errstate(divide="ignore"):
        p = multivariate_normal.cdf(np.zeros(len(y)), cov=covariance, rng=np.random.default_rng(0), **options)
        return float(np.log(p))


def _table(rows: list[dict[str, Any]], wanted: tuple[int, ...]) -> Table:
    return Table(
        "Against scipy.stats.multivariate_normal.cdf",
        [
            Column("n", "n"),
            Column("method", "method"),
            Column("log P", "log_p", ".4f"),
            Column(f"long run, {_LONG} replicates", "long_run", error="long_run_stderr"),
            Column("absolute error, nats", "error", ".4f"),
            Column("claimed error, nats", "claimed"),
            Column("seconds", "seconds"),
            Column("time / smc", "ratio"),
        ],
        rows,
        [
            f"{data_note(*wanted)}; labels {_LABELS}",
            "claimed: one standard error for smc; for SciPy, which returns none, its default absolute tolerance of "
            f"{_ABSEPS:g} in nats, log(1 + {_ABSEPS:g}/P)",
            f"scipy, abseps=0: up to {_POINTS:,} points an input, n at most {_LARGEST_CAPPED}",
        ],
    )
