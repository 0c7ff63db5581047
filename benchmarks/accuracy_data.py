"""Against long runs: images, depths from 1 to 10, and labellings from the simplest to noise."""

from __future__ import annotations

from typing import Any

from benchmarks.comparisons import columns, compare, long_run, summary
from benchmarks.problems import DATASETS, datasets
from benchmarks.report import Column, Table, say
from nngp_prior import FullyConnected, kernel
from nngp_prior.data import label, load
from nngp_prior.schemas.specs.data import Constant, Labelling, OneVsRest, RandomLabels, Threshold

_LABELLINGS: dict[str, Labelling] = {
    "constant": Constant(),
    "one-vs-rest:0": OneVsRest(label=0),
    "threshold:5": Threshold(at=5),
    "random": RandomLabels(seed=1),
}


def run(quick: bool) -> list[Table]:
    """Every method on every data set, depth and labelling."""
    n, depths = (60, (1, 10)) if quick else (500, (1, 2, 5, 10))
    particles, replicates = (128, 64) if quick else (512, 64)
    rows: list[dict[str, Any]] = []
    for name in datasets():
        data = load(DATASETS[name](n=n))
        for depth in depths:
            K = kernel(FullyConnected(depth=depth), data.X)
            for labels, labelling in _LABELLINGS.items():
                say(f"{name}, n = {n}, depth {depth}, {labels}")
                y = label(labelling, data.classes)
                truth = long_run(K, y, particles, replicates)
                rows.append({"data": name, "depth": depth, "labels": labels, **compare(K, y, truth, seed=len(rows))})
    missing = [name for name in DATASETS if name not in datasets()]
    return [
        Table(
            f"Against long runs: images, n = {n}",
            [
                Column("data", "data"),
                Column("depth", "depth"),
                Column("labels", "labels"),
                *columns(),
                Column("smc, s", "smc_s"),
            ],
            rows,
            [
                *summary(rows),
                f"fully connected relu networks; truth: smc with {replicates} × {particles} particles and another "
                "seed, its own error included in error / stderr and in coverage",
                *([f"without NNGP_DATA there is no {', no '.join(missing)}"] if missing else []),
            ],
        )
    ]
