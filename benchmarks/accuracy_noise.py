"""With noise: the orthant probability of K + vI, which is another quantity, and the one that Laplace's method is for.

With the probit link Laplace's method approximates just that. With the logistic link its noise has the same variance
and another distribution: the difference is not all error.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.comparisons import Truth, columns, compare, exact, long_run
from benchmarks.problems import problem, source
from benchmarks.report import Column, Table, say
from nngp_prior import log_probability
from tests.cases import equicorrelated, equicorrelated_labels

_NOISES = (0.1, 1.0)
_LINKS = ("probit", "logistic")
_METHODS = ("smc", "ep", "ep2")


def run(quick: bool) -> list[Table]:
    """Laplace's method, ep, ep2 and smc at equal noise."""
    n = 50 if quick else 500
    particles, replicates = (128, 64) if quick else (512, 64)
    rows: list[dict[str, Any]] = []
    for correlation in (0.5, 0.95):
        for kind, labels in (("positive", "all positive"), ("mixed", "2/3 positive")):
            K, y = equicorrelated(n, correlation), equicorrelated_labels(n, kind)
            for noise in _NOISES:
                say(f"noise {noise:g}, equicorrelated {correlation:g}, {labels}")
                case = {"kernel": f"equicorrelated {correlation:g}", "labels": labels, "noise": noise}
                rows.append(case | with_noise(K, y, noise, exact(K, y, noise_variance=noise)))
    K = problem(n).K
    for labels, y in problem(n).labels.items():
        for noise in _NOISES:
            say(f"noise {noise:g}, {source()}, {labels}")
            truth = long_run(K, y, particles, replicates, noise_variance=noise)
            case = {"kernel": f"{source()}, depth 2", "labels": labels, "noise": noise}
            rows.append(case | with_noise(K, y, noise, truth))
    largest = (f"{link} {max(abs(row[f'laplace_{link}']) for row in rows):.3f}" for link in _LINKS)
    return [
        Table(
            f"With noise: K + vI, n = {n}",
            [
                Column("kernel", "kernel"),
                Column("labels", "labels"),
                Column("v / mean variance", "noise"),
                *columns(_METHODS),
                Column("laplace, probit: error", "laplace_probit", "+.4f"),
                Column("laplace, logistic: difference", "laplace_logistic", "+.4f"),
            ],
            rows,
            [
                f"largest difference of laplace: {', '.join(largest)} nats",
                f"truth: closed form of K + vI, or smc with {replicates} × {particles} particles and another seed",
            ],
        )
    ]


def with_noise(K: np.ndarray, y: np.ndarray, noise: float, truth: Truth) -> dict[str, Any]:
    """The methods that stand comparison at equal noise; K's mean variance is 1."""
    row = compare(K, y, truth, _METHODS, noise_variance=noise)
    for link in _LINKS:
        estimate = log_probability(K, y, method="laplace", noise_variance=noise, link=link)
        row[f"laplace_{link}"] = estimate.value - truth.value
        row[f"laplace_{link}_status"] = estimate.status
    return row
