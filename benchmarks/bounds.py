"""PAC-Bayes bounds against the number of training examples, for labels of which a part is randomised."""

from __future__ import annotations

import datetime

import numpy as np

from benchmarks.problems import ARCHITECTURE, DATASETS, datasets
from benchmarks.report import RESULTS, Column, Table, say
from nngp_prior import clean_error_randomised, kernel, learning_curve
from nngp_prior.cli.bound_plot import Curve, plot_bounds
from nngp_prior.data import corrupted, label, load
from nngp_prior.schemas.data import Randomise, Threshold

_SIZES, _QUICK_SIZES = (100, 200, 500, 1000, 2000, 5000), (50, 100)
_PROBABILITIES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
_DELTA = _GAMMA = 0.05


def run(quick: bool) -> list[Table]:
    """All data sets that there are, classes 0-4 against 5-9; writes the plot beside the tables."""
    rows, panels = [], {}
    for name in [each for each in datasets() if each != "digits"] or ["digits"]:
        found = _rows(name, quick)
        rows += found
        panels[f"{name}, realizable bound"] = {f"ρ = {rho:g}": _curve(found, rho) for rho in _PROBABILITIES}
    path = RESULTS / f"{datetime.date.today().isoformat()}-bounds{'-quick' if quick else ''}.png"
    RESULTS.mkdir(exist_ok=True)
    plot_bounds(path, f"Error on labels randomised with probability ρ, δ = {_DELTA:g}", panels)
    return [_table(rows, path.name)]


def _curve(rows: list[dict], rho: float) -> Curve:
    own = [row for row in rows if row["rho"] == rho]
    return Curve([row["m"] for row in own], [row["realizable"] for row in own])


def _rows(name: str, quick: bool) -> list[dict]:
    largest = 1000 if name == "digits" else 5000
    sizes = [m for m in (_QUICK_SIZES if quick else _SIZES) if m <= largest]
    data = load(DATASETS[name](n=max(sizes)))
    K = kernel(ARCHITECTURE, data.X)
    clean = label(Threshold(at=5), data.classes, data.known_classes)
    rows = []
    for rho in _PROBABILITIES:
        say(f"{name}, ρ = {rho:g}")
        labels = corrupted(clean, Randomise(probability=rho))
        for m, estimate, bounds in learning_curve(K, labels, sizes, delta=_DELTA, gamma=_GAMMA):
            values = {bound.name: bound.value for bound in bounds.values()}
            rows.append(
                {
                    "data": name,
                    "m": m,
                    "rho": rho,
                    "changed": float(np.mean(labels[:m] != clean[:m])),
                    "log_p": estimate.value,
                    "stderr": estimate.stderr,
                    "log_p_lower": bounds["realizable"].log_p,
                    **values,
                    "clean": clean_error_randomised(values["realizable"], rho),
                    "status": estimate.status,
                    "seconds": estimate.seconds,
                }
            )
    return rows


def _table(rows: list[dict], plot: str) -> Table:
    columns = [
        Column("data", "data"),
        Column("m", "m"),
        Column("ρ", "rho", "g"),
        Column("log P", "log_p", "", "stderr"),
        Column("log P ≥", "log_p_lower", ".1f"),
        *(
            Column(heading, key, ".4f")
            for heading, key in (
                ("realizable", "realizable"),
                ("Maurer", "maurer"),
                ("Langford-Seeger", "langford-seeger"),
                ("McAllester", "mcallester"),
                ("Valle-Pérez, Louis", "valle-perez-louis"),
                ("realizable, clean labels", "clean"),
            )
        ),
        Column("s", "seconds", ".1f"),
    ]
    notes = [
        f"{ARCHITECTURE.activation} network with {ARCHITECTURE.depth} hidden layers; classes 0-4 against 5-9",
        "each label randomised with probability ρ; the first m of one random order",
        f"δ = {_DELTA:g} for each bound, with smc's rigorous lower bound; Valle-Pérez and Louis: and γ = {_GAMMA:g}",
        "bounds on the error on labels randomised alike; clean labels: (ε - ρ/2)/(1 - ρ) of the realizable one",
        f"plot: {plot}",
    ]
    return Table("PAC-Bayes bounds", columns, rows, notes)
