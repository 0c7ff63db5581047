"""The default estimate against the unit of work that nothing can avoid: one Cholesky factorisation of the kernel.

Compared in one run, on one matrix: the whole estimate (``smc``: checks, EP, pilot, replicates), EP alone, the kernel
itself, and ``scipy.linalg.cholesky`` in float64, in place. A floor says what the estimate's own operations would take
if all of them ran at the speed of matrix products. Peak memory is that of a process which does kernel and estimate.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
from scipy.special import log_ndtr

from benchmarks.fresh import fresh
from benchmarks.large import kernel_and_estimate
from benchmarks.problems import ARCHITECTURE, data_note, inputs, problem, sizes
from benchmarks.report import Column, Table, say
from benchmarks.timing import cholesky_seconds, measure, product_rate
from nngp_prior import Estimate, kernel, log_probability
from nngp_prior.numerics.gaussian import draw_half_line
from nngp_prior.probability.ep import SWEPT_VARIANCE
from nngp_prior.probability.factored_kernel import SMALL_VARIANCE
from nngp_prior.probability.proposals import USUAL_SHARES, allocate

_PROPOSALS = len(USUAL_SHARES)
_PILOT_REPLICATES = 8


class Rates(NamedTuple):
    """What this machine reaches.

    Attributes:
        double: operations a second of float64 matrix products.
        single: the same in float32.
        log_phi: evaluations a second of log Φ, on all cores.
        draws: truncated normal draws a second by inversion, on all cores.
    """

    double: float
    single: float
    log_phi: float
    draws: float


def run(quick: bool) -> list[Table]:
    """Times, the floor, kernel and memory."""
    wanted = (200, 300) if quick else (1000, 2000, 4000)
    rates = measure_rates()
    times, floors, kernels = [], [], []
    for n in sizes(*wanted):
        say(f"kernel and Cholesky, n = {n:,}")
        X = inputs(n).X
        K, labellings = problem(n).K, problem(n).labels
        unit = cholesky_seconds(K)
        kernel_seconds = measure(lambda X=X: kernel(ARCHITECTURE, X)).seconds
        kernels.append({"n": n, "kernel_s": kernel_seconds, "cholesky_s": unit, "ratio": kernel_seconds / unit})
        for name, y in labellings.items():
            say(f"smc and ep, n = {n:,}, {name}")
            smc, smc_seconds = measure(lambda K=K, y=y: log_probability(K, y))
            ep, ep_seconds = measure(lambda K=K, y=y: log_probability(K, y, method="ep"))
            times.append(
                {
                    "n": n,
                    "labels": name,
                    "log_p": smc.value,
                    "stderr": smc.stderr,
                    "status": smc.status,
                    "ep": ep.value,
                    "ep_minus_smc": ep.value - smc.value,
                    "smc_s": smc_seconds,
                    "ep_s": ep_seconds,
                    "cholesky_s": unit,
                    "smc_ratio": smc_seconds / unit,
                    "ep_ratio": ep_seconds / unit,
                }
            )
            floors.append({"n": n, "labels": name, **floor(smc, rates), "smc_s": smc_seconds})
            floors[-1]["ratio"] = smc_seconds / floors[-1]["floor_s"]
            floors[-1]["floor_ratio"] = floors[-1]["floor_s"] / unit
    say("peak memory")
    kernels = [fresh(kernel_and_estimate, row["n"]) | row for row in kernels]
    note = data_note(*wanted)
    return [_times(times, note), _floors(floors, rates), _kernels(kernels, note)]


def measure_rates() -> Rates:
    """Matrix products through the BLAS in use, special functions one thread at a time, times the cores."""
    rng = np.random.default_rng(0)
    z, log_u = rng.standard_normal(2**18), np.log(rng.random(2**18))
    log_phi = log_ndtr(z)
    per_core = len(z) * (os.cpu_count() or 1)
    return Rates(
        product_rate(np.float64),
        product_rate(np.float32),
        per_core / measure(lambda: log_ndtr(z)).seconds,
        per_core / measure(lambda: draw_half_line(z, log_phi, log_u)).seconds,
    )


def floor(estimate: Estimate, rates: Rates) -> dict[str, Any]:
    """The time that the operations of one default estimate take at the rates measured; leading terms only.

    The kernel's factorisation (``potrf`` n³/3) is in float64. EP: n³ a sweep (``syrk`` of half a product), at the rate
    of the precision in which it ended. A posterior factor for each proposal but the prior's (``lauum`` n³/3, ``potrf``
    n³/3, division of triangles n³/3), in float32 where the kernel allows. Particles: n² a particle and proposal
    followed, the prior's in float64, the others in the precision of their factors. The pilot follows all proposals.

    Args:
        estimate: whose diagnostics say how many sweeps, replicates and proposals there were.
        rates: of the machine.

    Returns:
        operations by kind, the floor, and beside it the time of the special functions that each draw needs.
    """
    d = estimate.diagnostics
    n = d["rank"]  # inputs, or with several classes C - 1 times as many constraints
    shares = allocate(np.array(d["shares"]), d["particles"])
    followed = 1 + max(1, int(np.count_nonzero(shares[1:])))
    pilot, particles = _PILOT_REPLICATES * d["particles"], d["replicates"] * d["particles"]
    in_single = d["ep_precision"] == "float32"
    sweep_rate = rates.single if in_single else rates.double
    in_single = in_single and d["smallest_conditional_variance"] > SMALL_VARIANCE
    factor_rate = rates.single if in_single else rates.double
    first_factor = estimate.n**3 / 3
    sweeps = d["ep_sweeps"] * n**3
    # EP's from the Σ that its sweeps leave, where that is far enough from singular.
    swept = in_single and d["smallest_conditional_variance"] > SWEPT_VARIANCE
    posterior_factors = n**3 * (4 / 3 if swept else 2)
    prior_paths = n * n * (pilot + particles)
    other_paths = n * n * (pilot * (_PROPOSALS - 1) + particles * (followed - 1))
    evaluations = n * (pilot * _PROPOSALS + particles * followed)
    return {
        "sweeps": d["ep_sweeps"],
        "ep_precision": d["ep_precision"],
        "factor_precision": "float32" if in_single else "float64",
        "proposals": followed,
        "sweeps_gflop": sweeps / 1e9,
        "factors_gflop": (first_factor + posterior_factors) / 1e9,
        "particles_gflop": (prior_paths + other_paths) / 1e9,
        "floor_s": (first_factor + prior_paths) / rates.double
        + sweeps / sweep_rate
        + (posterior_factors + other_paths) / factor_rate,
        "all_double_s": (first_factor + posterior_factors + sweeps + prior_paths + other_paths) / rates.double,
        "special_s": evaluations / rates.log_phi + n * (pilot + particles) / rates.draws,
    }


def _times(rows: list[dict[str, Any]], note: str) -> Table:
    return Table(
        "The default estimate, in Cholesky factorisations",
        [
            Column("n", "n"),
            Column("labels", "labels"),
            Column("log P (smc)", "log_p", error="stderr"),
            Column("stderr", "stderr"),
            Column("status", "status"),
            Column("ep - smc, nats", "ep_minus_smc", "+.3f"),
            Column("smc, s", "smc_s"),
            Column("ep, s", "ep_s"),
            Column("Cholesky, s", "cholesky_s"),
            Column("smc / Cholesky", "smc_ratio"),
            Column("ep / Cholesky", "ep_ratio"),
        ],
        rows,
        [
            note,
            "Cholesky: scipy.linalg.cholesky of the same matrix, float64, lower, in place, Fortran order; "
            "best of at least 5 and of a second",
        ],
    )


def _floors(rows: list[dict[str, Any]], rates: Rates) -> Table:
    return Table(
        "How far the default estimate is from the speed of matrix products",
        [
            Column("n", "n"),
            Column("labels", "labels"),
            Column("EP sweeps", "sweeps"),
            Column("sweeps in", "ep_precision"),
            Column("factors in", "factor_precision"),
            Column("proposals", "proposals"),
            Column("sweeps, Gflop", "sweeps_gflop"),
            Column("factors, Gflop", "factors_gflop"),
            Column("particles, Gflop", "particles_gflop"),
            Column("floor, s", "floor_s"),
            Column("smc, s", "smc_s"),
            Column("smc / floor", "ratio"),
            Column("floor / Cholesky", "floor_ratio"),
            Column("all at float64's rate, s", "all_double_s"),
            Column("special functions, s", "special_s"),
        ],
        rows,
        [
            f"floor: leading operation counts over the measured rates of gemm, {rates.double / 1e9:.0f} Gflop/s in "
            f"float64 and {rates.single / 1e9:.0f} in float32",
            "factors: K's own, potrf n³/3; EP's, potrf n³/3 of the Σ of its sweeps; the widened one's lauum, potrf and "
            "division of triangles, n³/3 each; sweeps n³ each",
            "special functions, not in the floor: log Φ of every coordinate, particle and proposal, and an inversion "
            f"a draw, at {rates.log_phi / 1e6:.0f} and {rates.draws / 1e6:.0f} million a second on all cores",
        ],
    )


def _kernels(rows: list[dict[str, Any]], note: str) -> Table:
    return Table(
        "Kernel and memory",
        [
            Column("n", "n"),
            Column("kernel, s", "kernel_s"),
            Column("kernel / Cholesky", "ratio"),
            Column("K, GB", "matrix_gb"),
            Column("imports and data, GB", "before_gb"),
            Column("after the kernel, GB", "after_kernel_gb"),
            Column("peak of the whole process, GB", "peak_gb"),
            Column("peak / K", "peak_ratio"),
        ],
        rows,
        [
            note,
            "peak resident memory of a fresh process: load, kernel, estimate (threshold:5)",
            "kernel time includes compilation",
        ],
    )
