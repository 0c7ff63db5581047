"""Against GPy's expectation propagation, on the same kernel and labels and with as many BLAS threads.

GPy is the established Python implementation of EP with a noise-free (Heaviside) link. It runs in an environment of
its own, built when missing from ``requirements-gpy.txt``, in a process of its own, and times its ``EP.inference``
itself (:mod:`benchmarks.gpy_ep`). It has two modes: one site after another, the default, and all sites at once.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environments import Environment
from benchmarks.problems import data_note, problem, sizes
from benchmarks.report import Column, Table, say
from benchmarks.timing import blas_threads, measure
from nngp_prior import log_probability

GPY = Environment("gpy")
_MAX_SWEEPS = 200
_WANTED_OVER_SMC = 30  # of GPy's default mode


def run(quick: bool) -> list[Table]:
    """Value and time of both GPy modes and of our two estimators."""
    wanted = (50, 100) if quick else (300, 1000)
    limit = 60.0 if quick else 400.0
    GPY.build()
    rows = []
    for n in sizes(*wanted):
        K = problem(n).K
        for name, y in problem(n).labels.items():
            say(f"smc and ep, n = {n:,}, {name}")
            smc, smc_seconds = measure(lambda K=K, y=y: log_probability(K, y))
            ep, ep_seconds = measure(lambda K=K, y=y: log_probability(K, y, method="ep"))
            for mode in ("sequential", "parallel"):
                say(f"GPy, {mode}, n = {n:,}, {name}")
                result, seconds = measure(
                    lambda K=K, y=y, mode=mode: gpy_ep(K, y, mode == "parallel", limit), lambda r: r["seconds"]
                )
                rows.append(
                    {
                        "n": n,
                        "labels": name,
                        "smc": smc.value,
                        "smc_stderr": smc.stderr,
                        "smc_s": smc_seconds,
                        "ep": ep.value,
                        "ep_s": ep_seconds,
                        "ep_sweeps": ep.diagnostics["ep_sweeps"],
                        "mode": mode,
                        "gpy": result["log_z"],
                        "gpy_s": seconds,
                        "gpy_sweeps": result["sweeps"],
                        "gpy_end": result["end"],
                        "over_smc": seconds / smc_seconds,
                        "over_ep": seconds / ep_seconds,
                    }
                )
    return [_table(rows, wanted, limit)]


def gpy_ep(K: np.ndarray, y: np.ndarray, parallel: bool, limit: float) -> dict[str, Any]:
    """One run of GPy's EP.

    Args:
        K: kernel matrix.
        y: -1 and +1.
        parallel: all sites at once instead of one after another.
        limit: seconds after which it is ended.

    Returns:
        ``log_z``, ``seconds``, ``sweeps``, and ``end``: how it ended.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problem.npz"
        np.savez(path, K=K, labels=y)
        arguments = [str(path), "--max-sweeps", str(_MAX_SWEEPS), *["--parallel"] * parallel]
        try:
            result = GPY.run("gpy_ep.py", *arguments, limit=limit)
        except subprocess.TimeoutExpired:
            return {"log_z": None, "seconds": limit, "sweeps": None, "end": "time limit"}
        except RuntimeError as error:
            return {"log_z": None, "seconds": float("nan"), "sweeps": None, "end": f"failed: {error}"}
    return result | {"end": "converged" if result["converged"] else "sweep cap"}


def _least_ratios(rows: list[dict[str, Any]]) -> list[str]:
    """How many times faster we are than each of GPy's modes, at the least, at the largest n."""
    n = max(row["n"] for row in rows)
    notes = []
    for mode in ("sequential", "parallel"):
        chosen = [row for row in rows if row["n"] == n and row["mode"] == mode]
        smc, ep = min(row["over_smc"] for row in chosen), min(row["over_ep"] for row in chosen)
        ends = ", ".join(dict.fromkeys(row["gpy_end"] for row in chosen))
        wanted = f" (wanted at n = 1,000: {_WANTED_OVER_SMC})" if mode == "sequential" else ""
        notes.append(
            f"n = {n:,}, least over labellings: {mode} GPy takes {smc:.3g} times smc's time{wanted}, {ep:.3g} times "
            f"ep's; ends: {ends}"
        )
    return notes


def _table(rows: list[dict[str, Any]], wanted: tuple[int, ...], limit: float) -> Table:
    return Table(
        "Against GPy's expectation propagation",
        [
            Column("n", "n"),
            Column("labels", "labels"),
            Column("log P (smc)", "smc", error="smc_stderr"),
            Column("smc, s", "smc_s"),
            Column("log Z (ep)", "ep", ".3f"),
            Column("ep, s", "ep_s"),
            Column("sweeps", "ep_sweeps"),
            Column("GPy", "mode"),
            Column("log Z (GPy)", "gpy", ".3f"),
            Column("GPy, s", "gpy_s"),
            Column("sweeps", "gpy_sweeps"),
            Column("end", "gpy_end"),
            Column("GPy / smc, time", "over_smc"),
            Column("GPy / ep, time", "over_ep"),
        ],
        rows,
        [
            data_note(*wanted),
            f"GPy {GPY.version('gpy')}, Heaviside link, its defaults otherwise; at most {_MAX_SWEEPS} sweeps, and "
            f"{limit:g} s (then the ratio is a lower bound); both sides with {blas_threads()} BLAS threads",
            "GPy's time is that of EP.inference, which also forms the posterior; start and imports are not in it",
            *_least_ratios(rows),
        ],
    )
