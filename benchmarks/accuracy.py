"""Against exact answers: product correlation (equicorrelation is one), where P is a one-dimensional integral at any n.

Strong correlation and simple labels are the hard case: the posterior of the common factor is skewed, weights have a
heavy tail, and error bars tend to be too small. The error in units of the claimed standard error should look like
Student's t with as many degrees of freedom as there are replicates, less one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import accuracy_data, accuracy_noise
from benchmarks.comparisons import columns, compare, exact, summary
from benchmarks.report import Column, Table, say
from tests.cases import equicorrelated, equicorrelated_labels, product_correlated

_LABELS = {"all positive": "positive", "2/3 positive": "mixed", "random": "random"}
_CORRELATIONS = (0.1, 0.5, 0.8, 0.95)
_FEW_ABOVE = 1000  # where a case takes minutes, fewer are enough


def run(quick: bool) -> Iterator[Table]:
    """Real data against long runs; closed forms; noise, with Laplace's approximation."""
    yield from accuracy_data.run(quick)
    yield closed_forms(quick)
    yield from accuracy_noise.run(quick)


def closed_forms(quick: bool) -> Table:
    """Every method against closed forms."""
    rows: list[dict[str, Any]] = []
    for n in (10, 100) if quick else (10, 100, 1000, 10_000):
        for name, K in kernels(n):
            for labels in _LABELS:
                if n > _FEW_ABOVE and labels == "2/3 positive":
                    continue
                say(f"closed forms, n = {n:,}, {name}, {labels}")
                y = equicorrelated_labels(n, _LABELS[labels])
                rows.append({"n": n, "kernel": name, "labels": labels, **compare(K, y, exact(K, y), seed=len(rows))})
    return Table(
        "Against closed forms",
        [
            Column("n", "n"),
            Column("kernel", "kernel"),
            Column("labels", "labels"),
            *columns(),
            Column("smc, s", "smc_s"),
        ],
        rows,
        [
            *summary(rows),
            "kernel: the correlation of all pairs, or product for λ_i λ_j with random λ_i from 0.1 to 0.99",
            "one run each; seconds are those of a single run without warm-up, the factorisation of K not included",
        ],
    )


def kernels(n: int) -> Iterator[tuple[str, np.ndarray]]:
    """Equicorrelated ones, by their correlation, and one with random loadings."""
    for correlation in _CORRELATIONS if n <= _FEW_ABOVE else ():
        yield f"{correlation:g}", equicorrelated(n, correlation)
    yield "product", product_correlated(n)
