"""PAC-Bayes bounds beside what they bound, the test error of functions drawn from the posterior; labels randomised."""

from __future__ import annotations

import datetime
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.problems import ARCHITECTURE, DATASETS, datasets
from benchmarks.report import RESULTS, Column, Table, say
from nngp_prior import clean_error_randomised, kernel, pac_bayes_bounds, posterior
from nngp_prior.data import corrupted, label, load
from nngp_prior.prior.posterior import Posterior
from nngp_prior.schemas.specs.data import Randomise, Threshold
from nngp_prior.schemas.statistics import mean_with_error

_SIZES, _QUICK_SIZES = (100, 300, 1000, 3000, 5000), (50, 100)
_TEST, _QUICK_TEST = 1000, 100
_PROBABILITIES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
_DELTA = _GAMMA = 0.05
_LABELLING = Threshold(at=5)


def run(quick: bool) -> list[Table]:
    """All data sets that there are, classes 0-4 against 5-9; writes the plot beside the tables."""
    rows: list[dict[str, Any]] = []
    for name in [each for each in datasets() if each != "digits"] or ["digits"]:
        rows += _rows(name, quick)
    path = RESULTS / f"{datetime.date.today().isoformat()}-bounds{'-quick' if quick else ''}.png"
    RESULTS.mkdir(exist_ok=True)
    _plot(path, rows)
    return [_table(rows, path.name)]


def _rows(name: str, quick: bool) -> list[dict[str, Any]]:
    largest = 1000 if name == "digits" else 5000
    sizes = [m for m in (_QUICK_SIZES if quick else _SIZES) if m <= largest]
    tested = _QUICK_TEST if quick else 360 if name == "digits" else _TEST
    train = load(DATASETS[name](n=max(sizes)))
    test = load(DATASETS[name](n=tested, split="test"))
    say(f"{name}: kernel of {len(train.X):,} training and {tested:,} test inputs")
    K = kernel(ARCHITECTURE, np.concatenate([train.X, test.X]))
    clean, clean_test = (label(_LABELLING, data.classes, data.known_classes) for data in (train, test))
    rows = []
    for rho in _PROBABILITIES:
        labels = corrupted(clean, Randomise(probability=rho))
        labels_test = corrupted(clean_test, Randomise(probability=rho, seed=1))
        for m in sizes:
            say(f"{name}, ρ = {rho:g}, m = {m:,}")
            began = time.perf_counter()
            chosen = np.concatenate([np.arange(m), np.arange(max(sizes), len(K))])
            found = posterior(K[np.ix_(chosen, chosen)], labels[:m])
            bounds = {bound.name: bound for bound in pac_bayes_bounds(found.log_p, _DELTA, gamma=_GAMMA).values()}
            values = {bound.name: bound.value for bound in bounds.values()}
            bounded = {"alike": values["realizable"], "clean": clean_error_randomised(values["realizable"], rho)}
            errors = {"alike": _gibbs(found, labels_test), "clean": _gibbs(found, clean_test)}
            rows.append(
                {
                    "data": name,
                    "m": m,
                    "rho": rho,
                    "changed": float(np.mean(labels[:m] != clean[:m])),
                    "log_p": found.log_p.value,
                    "stderr": found.log_p.stderr,
                    "log_p_lower": bounds["realizable"].log_p,
                    **values,
                    **{f"bound_{which}": value for which, value in bounded.items()},
                    **{f"gibbs_{which}{part}": v for which, error in errors.items() for part, v in error.items()},
                    **{f"holds_{which}": bounded[which] >= errors[which][""] for which in bounded},
                    "status": found.log_p.status,
                    "seconds": time.perf_counter() - began,
                }
            )
    return rows


def _gibbs(found: Posterior, labels: np.ndarray) -> dict[str, float]:
    """The Gibbs error, its standard error from the estimator alone, and with the draw of the test inputs."""
    error, probability = found.gibbs_error(labels), found.predictive().value
    _, of_inputs = mean_with_error(np.where(labels > 0, 1 - probability, probability))
    return {"": error.value, "_estimator": error.stderr, "_stderr": math.hypot(error.stderr, of_inputs)}


def _plot(path: Path, rows: list[dict[str, Any]]) -> None:
    """Bounds as lines, errors as points with two standard errors; above on labels randomised alike, below on clean."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(row["data"] for row in rows))
    colours = {
        rho: plt.get_cmap("viridis")(0.9 * i / (len(_PROBABILITIES) - 1)) for i, rho in enumerate(_PROBABILITIES)
    }
    figure, axes = plt.subplots(
        2, len(names), figsize=(1.5 + 5 * len(names), 8), sharex=True, sharey=True, squeeze=False
    )
    for column, name in zip(axes.T, names, strict=True):
        for axis, which in zip(column, ("alike", "clean"), strict=True):
            for rho in _PROBABILITIES:
                own = [row for row in rows if (row["data"], row["rho"]) == (name, rho)]
                sizes = [row["m"] for row in own]
                axis.plot(
                    sizes, [row[f"bound_{which}"] for row in own], color=colours[rho], label=f"ρ = {rho:g}", lw=1.4
                )
                error, stderr = (np.array([row[f"gibbs_{which}{part}"] for row in own]) for part in ("", "_stderr"))
                axis.errorbar(sizes, error, 2 * stderr, color=colours[rho], fmt="o:", ms=3.5, lw=1, capsize=2)
            labels = "labels randomised alike" if which == "alike" else "clean labels"
            axis.set(xscale="log", title=f"{name}, error on {labels}", ylim=(0, 1.02))
            shown = sorted({row["m"] for row in rows})
            axis.set_xticks(shown, [f"{m:,}" for m in shown])
            axis.minorticks_off()
            axis.spines[["top", "right"]].set_visible(False)
        column[-1].set(xlabel="training examples m")
    for row_of_axes in axes:
        row_of_axes[0].set(ylabel="bound (line), measured Gibbs error (points)")
    axes[0, -1].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.suptitle(
        f"Realizable PAC-Bayes bound, δ = {_DELTA:g}; training labels randomised with probability ρ", fontsize=11
    )
    figure.tight_layout()
    figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(figure)


def _table(rows: list[dict[str, Any]], plot: str) -> Table:
    columns = [
        Column("data", "data"),
        Column("m", "m"),
        Column("ρ", "rho", "g"),
        Column("log P", "log_p", "", "stderr"),
        Column("bound", "bound_alike", ".4f"),
        Column("Gibbs error", "gibbs_alike", "", "gibbs_alike_stderr"),
        Column("holds", "holds_alike"),
        Column("bound, clean labels", "bound_clean", ".4f"),
        Column("Gibbs error, clean labels", "gibbs_clean", "", "gibbs_clean_stderr"),
        Column("holds", "holds_clean"),
        Column("s", "seconds", ".1f"),
    ]
    held = sum(row["holds_alike"] and row["holds_clean"] for row in rows)
    closest = min(rows, key=lambda row: row["bound_alike"] - row["gibbs_alike"])
    gap = closest["bound_alike"] - closest["gibbs_alike"]
    notes = [
        f"{ARCHITECTURE.activation} network with {ARCHITECTURE.depth} hidden layers; classes 0-4 against 5-9",
        "each training label randomised with probability ρ; the first m of one random order",
        f"realizable bound, δ = {_DELTA:g} for each, with smc's rigorous lower bound",
        "clean labels: (ε - ρ/2)/(1 - ρ) of it",
        "Gibbs error: mean over test inputs of P(another label | S), on labels randomised alike and on clean ones; its "
        "standard error has the draw of the test inputs in it",
        f"both bounds hold in {held} of {len(rows)} rows; the smallest distance is {gap:.3f} ({closest['data']}, "
        f"ρ = {closest['rho']:g}, m = {closest['m']:,})",
        f"plot: {plot}; the other inequalities are in the JSON",
    ]
    return Table("PAC-Bayes bounds and the Gibbs classifier's test error", columns, rows, notes)
