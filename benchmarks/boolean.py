"""The Boolean system: frequencies of functions of seven bits, of networks and of the Gaussian process, and log P."""

from __future__ import annotations

import datetime
import math
import time
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.report import RESULTS, Column, Table, say
from nngp_prior import FullyConnected, FunctionCounts, kernel, log_probabilities, sample_functions
from nngp_prior.cli.plots.functions import Estimated, plot_functions
from nngp_prior.data import load
from nngp_prior.data.complexity import lempel_ziv
from nngp_prior.schemas.specs.data import Boolean
from nngp_prior.settings import Settings

NETWORK = FullyConnected(depth=2, width=40, weight_std=1, bias_std=0)
_DRAWS, _QUICK_DRAWS = 10_000_000, 100_000
_LEAST, _QUICK_LEAST = 100, 10  # draws of a function
_MOST = 5000  # functions
_SHOWN = 12
_PERCEPTRON_BITS = 5


def run(quick: bool) -> list[Table]:
    """Sampling goes on from the files of a run that was cut off."""
    draws = _QUICK_DRAWS if quick else _DRAWS
    X = load(Boolean(bits=7)).X
    sampled, rates = {}, {}
    for source in ("networks", "gp"):
        say(f"{draws:,} draws: {source}")
        sampled[source], rates[source] = _sampled(X, draws, source)
    rows = _rows(X, sampled, _QUICK_LEAST if quick else _LEAST)
    path = RESULTS / f"{datetime.date.today().isoformat()}-boolean{'-quick' if quick else ''}.png"
    RESULTS.mkdir(exist_ok=True)
    complexities = [row["lempel_ziv"] for row in rows]
    estimated = {method: Estimated([row[method] for row in rows], complexities) for method in ("smc", "ep")}
    plot_functions(path, "7-40-40-1, weight_std 1, no bias, all inputs of seven bits (±1)", sampled, estimated)
    return [_frequencies(rows, path, sampled), _agreement(rows), _rates(sampled, rates), _perceptron(quick)]


def _sampled(X: np.ndarray, draws: int, source: str) -> tuple[FunctionCounts, float | None]:
    """Counts, and draws a second where none had been drawn before."""
    folder = Settings().home / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    path: Path = folder / f"boolean-{source}-{draws}.npz"
    fresh = not path.exists()
    sample_functions(NETWORK, X, 1000, source=source)  # warm
    began = time.perf_counter()
    counts = sample_functions(NETWORK, X, draws, source=source, path=path, progress=_say_each(10))
    return counts, draws / (time.perf_counter() - began) if fresh else None


def _say_each(parts: int):
    reported = 0

    def report(event) -> None:
        nonlocal reported
        if event.done * parts // event.total > reported:
            reported = event.done * parts // event.total
            say(f"{event.stage}: {event.done:,} of {event.total:,}")

    return report


def _rows(X: np.ndarray, sampled: dict[str, FunctionCounts], least: int) -> list[dict]:
    """Functions are chosen by the networks' counts, which are independent of the draws of the Gaussian process."""
    top = sampled["networks"].top(_MOST, least)
    K, Y = kernel(NETWORK, X), np.array([each.labels for each in top])
    say(f"smc and ep of {len(top)} functions")
    smc, ep = (log_probabilities(K, Y, method=method) for method in ("smc", "ep"))
    rows = []
    for each, by_smc, by_ep in zip(top, smc, ep, strict=True):
        gp = sampled["gp"].frequency(each.labels)
        rows.append(
            {
                "rank": each.rank,
                "ones": int((each.labels > 0).sum()),
                "lempel_ziv": lempel_ziv(each.labels),
                "count": each.draws,
                "networks": each.frequency.value,
                "networks_stderr": each.frequency.stderr,
                "gp_count": sampled["gp"].count(each.labels),
                "gp": gp.value,
                "gp_stderr": gp.stderr,
                "smc": by_smc.value,
                "smc_stderr": by_smc.stderr,
                "ep": by_ep.value,
                "ep_status": by_ep.status,
                "z": _z(by_smc.value, by_smc.stderr, sampled["gp"].count(each.labels), sampled["gp"].draws),
            }
        )
    return rows


def _z(log_p: float, stderr: float, hits: int, draws: int) -> float:
    """Hits against those expected, in standard errors of both; the expected ones are never 0."""
    expected = draws * math.exp(log_p)
    return (hits - expected) / math.sqrt(expected * (1 - expected / draws) + (expected * stderr) ** 2)


def _frequencies(rows: list[dict], path: Path, sampled: dict[str, FunctionCounts]) -> Table:
    columns = [
        Column("rank", "rank"),
        Column("ones", "ones"),
        Column("Lempel-Ziv", "lempel_ziv", ".1f"),
        Column("networks", "networks", "", "networks_stderr"),
        Column("GP draws", "gp", "", "gp_stderr"),
        Column("smc", "smc", "", "smc_stderr"),
        Column("ep", "ep", ".3f"),
        Column("z, smc against GP draws", "z", ".2f"),
    ]
    networks = sampled["networks"]
    notes = [
        f"{networks.draws:,} networks gave {len(networks):,} functions, as many draws of the GP {len(sampled['gp']):,}",
        f"the first {_SHOWN} of {len(rows)} functions, chosen by the networks' counts, independent of the GP's draws",
        f"networks without a label somewhere: {networks.undecided:,}",
        f"plot: {path.name}",
    ]
    return Table("Boolean system, 7-40-40-1", columns, rows[:_SHOWN], notes)


def _agreement(rows: list[dict]) -> Table:
    """Means and lines over all functions; those that the GP never drew have no logarithm and are left out there."""
    drawn = [row for row in rows if row["gp_count"]]
    z = np.abs([row["z"] for row in rows])
    found = []
    for name, reference in (
        ("smc", "gp"),
        ("ep", "gp"),
        ("ep", "smc"),
        ("networks", "gp"),
        ("networks", "smc"),
        ("ep", "networks"),
    ):
        values, against = (np.array([row[key] for row in drawn]) for key in (name, reference))
        line = stats.linregress(against, values)
        found.append(
            {
                "what": name,
                "against": reference,
                "functions": len(drawn),
                "difference": float(np.mean(values - against)),
                "difference_stderr": float(stats.sem(values - against)),
                "r": line.rvalue,
                "slope": line.slope,
                "slope_stderr": line.stderr,
                "over_2": int(np.sum(z > 2)) if (name, reference) == ("smc", "gp") else None,
                "over_3": int(np.sum(z > 3)) if (name, reference) == ("smc", "gp") else None,
            }
        )
    columns = [
        Column("log P by", "what"),
        Column("against", "against"),
        Column("functions", "functions"),
        Column("mean difference, nats", "difference", "", "difference_stderr"),
        Column("r", "r", ".4f"),
        Column("slope", "slope", "", "slope_stderr"),
        Column("|z| > 2", "over_2"),
        Column("> 3", "over_3"),
    ]
    notes = [f"of {len(rows)} z, 4.6 % are expected beyond 2 and 0.3 % beyond 3"]
    return Table("Boolean system: agreement", columns, found, notes)


def _rates(sampled: dict[str, FunctionCounts], rates: dict[str, float | None]) -> Table:
    rows = [
        {"source": name, "draws": counts.draws, "functions": len(counts), "rate": rates[name]}
        for name, counts in sampled.items()
    ]
    columns = [Column(name, name) for name in ("source", "draws", "functions")]
    notes = [f"no rate of {name}: draws were in a file already" for name, rate in rates.items() if rate is None]
    return Table("Boolean system: speed", [*columns, Column("draws a second", "rate", ",.0f")], rows, notes)


def _perceptron(quick: bool) -> Table:
    """The number t of ones of a perceptron without bias on {0, 1}ⁿ is uniform (Mingard et al. 2019, 1909.11522)."""
    bits, draws = _PERCEPTRON_BITS, _QUICK_DRAWS if quick else _DRAWS // 10
    X = load(Boolean(bits=bits, encoding="bits", leave_out_zero=True)).X
    counts = sample_functions(FullyConnected(depth=0, bias_std=0), X, draws)
    t = np.bincount((counts.labels() > 0).sum(axis=1), weights=counts.counts, minlength=2**bits)
    expected = draws / 2**bits
    spread = math.sqrt(expected * (1 - 2.0**-bits))
    row = {
        "bits": bits,
        "draws": draws,
        "undecided": counts.undecided,
        "largest_z": float(np.abs(t - expected).max() / spread),
        "p_value": stats.chisquare(t).pvalue,
    }
    columns = [
        Column("bits", "bits"),
        Column("draws", "draws"),
        Column("undecided", "undecided"),
        Column("largest |z| of P(t)", "largest_z", ".2f"),
        Column("p of χ²", "p_value", ".3f"),
    ]
    notes = [f"P(t) = 2⁻ⁿ for t = 0 … {2**bits - 1}; the zero vector, whose output is always 0, is left out"]
    return Table("Perceptron without bias: number of ones", columns, [row], notes)
