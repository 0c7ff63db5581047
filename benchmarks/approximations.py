"""Approximate kernels of many inputs: how far log P moves, at sizes at which the exact kernel can be used too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from benchmarks.problems import ARCHITECTURE, DATASETS, datasets
from benchmarks.report import Column, Table, say
from nngp_prior import kernel, log_probability
from nngp_prior.data import label, load
from nngp_prior.schemas.specs.data import RandomLabels, Threshold

_SIZES, _QUICK_SIZES = (500, 1000, 2000), (100,)
_LABELLINGS = {"0-4 against 5-9": Threshold(at=5), "random": RandomLabels(seed=0)}


def run(quick: bool) -> list[Table]:
    """MNIST if it is there, digits otherwise."""
    name = "mnist" if "mnist" in datasets() else "digits"
    rows = [row for n in (_QUICK_SIZES if quick else _SIZES) for row in _rows(name, n)]
    columns = [
        Column("n", "n", ","),
        Column("labelling", "labelling"),
        Column("kernel", "kernel"),
        Column("numbers per input", "numbers", ","),
        Column("log P", "log_p", ".2f", "stderr"),
        Column("difference, nats", "difference", "+.2f"),
        Column("per input", "per_input", "+.4f"),
    ]
    notes = [
        f"{name}, relu network with 2 hidden layers, the default estimator",
        "eigenvectors: the m largest eigenvalues, and a diagonal that keeps the variances",
        "inducing inputs: Nyström's approximation from m random inputs, and such a diagonal (FITC)",
        "neighbours: each input given the k most correlated ones of the inputs before it (Vecchia)",
        "numbers per input: what is stored beside shared matrices of m by m",
    ]
    return [Table("Approximate kernels", columns, rows, notes)]


def _rows(name: str, n: int) -> Iterator[dict[str, Any]]:
    data = load(DATASETS[name](n=n))
    K = kernel(ARCHITECTURE, data.X)
    exact: dict[str, float] = {}
    for title, numbers, approximate in _kernels(K):
        say(f"{name}, n = {n:,}: {title}")
        for labelling, specification in _LABELLINGS.items():
            found = log_probability(approximate, label(specification, data.classes, data.known_classes))
            difference = found.value - exact.setdefault(labelling, found.value)
            yield {
                "n": n,
                "labelling": labelling,
                "kernel": title,
                "numbers": numbers,
                "log_p": found.value,
                "stderr": found.stderr,
                "difference": difference,
                "per_input": difference / n,
            }


def _kernels(K: np.ndarray) -> Iterator[tuple[str, int, np.ndarray]]:
    n = len(K)
    yield "exact", n, K
    values, vectors = np.linalg.eigh(K)
    for m in (n // 20, n // 5):
        chosen = vectors[:, -m:] * np.sqrt(np.maximum(values[-m:], 0.0))
        yield f"{m:,} eigenvectors", m + 1, _with_variances(chosen @ chosen.T, K)
    for m in (n // 20, n // 5):
        inducing = np.random.default_rng(0).permutation(n)[:m]
        # K is positive definite here: its factor needs no jitter.
        half = solve_triangular(np.linalg.cholesky(K[np.ix_(inducing, inducing)]), K[inducing], lower=True)
        yield f"{m:,} inducing inputs", m + 1, _with_variances(half.T @ half, K)
    for k in (10, 30, 100):
        yield f"{k} neighbours", 2 * k + 1, _vecchia(K, k)


def _with_variances(low_rank: np.ndarray, K: np.ndarray) -> np.ndarray:
    low_rank[np.diag_indices(len(K))] = np.diagonal(K)
    return low_rank


def _vecchia(K: np.ndarray, k: int) -> np.ndarray:
    """Covariance of x_i = b_i · (x of its neighbours) + an independent remainder."""
    n = len(K)
    scale = np.sqrt(np.diagonal(K))
    weights, deviations = np.eye(n), np.zeros(n)
    for i in range(n):
        near = np.argsort(-K[i, :i] / scale[:i])[:k]
        if len(near):
            b = cho_solve(cho_factor(K[np.ix_(near, near)]), K[near, i])
            weights[i, near] = -b
            deviations[i] = K[i, i] - K[i, near] @ b
        else:
            deviations[i] = K[i, i]
    L = solve_triangular(weights, np.diag(np.sqrt(deviations)), lower=True)
    return L @ L.T
