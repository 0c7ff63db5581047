"""Against exact answers: equicorrelated inputs, where P is a one-dimensional integral at any n.

Strong correlation and simple labels are the hard case: the posterior of the common factor is skewed, weights have a
heavy tail, and error bars tend to be too small. The error in units of the claimed standard error should look like
Student's t with as many degrees of freedom as there are replicates, less one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.report import Column, Table, say
from nngp_prior import log_probability

_CORRELATIONS = (0.1, 0.5, 0.8, 0.95)


def run(quick: bool) -> list[Table]:
    """Error of smc in nats and in standard errors, and of EP, for each case."""
    rows = []
    for n in (10, 100) if quick else (10, 100, 1000):
        say(f"closed forms, n = {n:,}")
        for correlation in _CORRELATIONS:
            K = np.full((n, n), correlation) + (1 - correlation) * np.eye(n)
            for name, y in labellings(n).items():
                rows.append({"n": n, "correlation": correlation, "labels": name, **compare(K, y)})
    return [_table(rows)]


def labellings(n: int) -> dict[str, np.ndarray]:
    """Only the number of positive labels matters; they are spread evenly."""
    return {
        "all positive": np.ones(n, dtype=int),
        "2/3 positive": np.where(np.arange(n) % 3 < 2, 1, -1),
        "random": np.where(np.random.default_rng(0).random(n) < 0.5, 1, -1),
    }


def compare(K: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """smc and EP against the closed form."""
    truth = log_probability(K, y, method="closed-form").value
    smc = log_probability(K, y)
    assert smc.stderr is not None
    return {
        "truth": truth,
        "smc": smc.value,
        "stderr": smc.stderr,
        "error": smc.value - truth,
        "standardised": (smc.value - truth) / smc.stderr,
        "lower_bound": smc.lower_bound(0.01),
        "ep_error": smc.diagnostics["log_z_ep"] - truth,
        "status": smc.status,
        "seconds": smc.seconds,
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    z = np.array([row["standardised"] for row in rows])
    below = sum(row["lower_bound"] <= row["truth"] for row in rows)
    return Table(
        "Against closed forms: equicorrelated inputs",
        [
            Column("n", "n"),
            Column("correlation", "correlation"),
            Column("labels", "labels"),
            Column("truth", "truth", ".4f"),
            Column("smc", "smc", error="stderr"),
            Column("error, nats", "error", "+.4f"),
            Column("error / stderr", "standardised", "+.1f"),
            Column("99% lower bound", "lower_bound", ".3f"),
            Column("EP's error, nats", "ep_error", "+.4f"),
            Column("status", "status"),
            Column("smc, s", "seconds"),
        ],
        rows,
        [
            f"error / stderr over {len(z)} cases: mean {z.mean():+.2f}, root mean square {np.sqrt(np.mean(z**2)):.2f}, "
            f"largest {np.abs(z).max():.1f}; {np.mean(np.abs(z) < 2):.0%} under 2",
            f"largest error: smc {max(abs(row['error']) for row in rows):.4f} nats, "
            f"EP {max(abs(row['ep_error']) for row in rows):.4f}",
            f"the lower bound is under the truth in {below} of {len(z)} cases",
            "one run each; seconds are those of a single run without warm-up",
        ],
    )
