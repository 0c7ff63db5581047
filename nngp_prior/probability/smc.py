"""The default estimator: sequential Monte Carlo whose proposals are EP's, defended by a mixture.

Lineage: separation of variables (Genz 1992; Geweke, Hajivassiliou, Keane); SMC for orthants (Ridgway 2016); twisting
with deterministic approximations (Lindsten, Helske, Vihola 2018); defensive mixtures (Hesterberg 1995; Owen & Zhou
2000).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.special import logsumexp
from threadpoolctl import threadpool_limits

from nngp_prior.numerics.random import generator
from nngp_prior.probability.diagnostics import effective_sample_size, largest_share, pareto_k
from nngp_prior.probability.ep import ep_diagnostics, expectation_propagation
from nngp_prior.probability.memory import COLUMNS, COLUMNS_ON_DEVICE, cores
from nngp_prior.probability.particles import Mixture, Outcome, make_mixture, run_replicates
from nngp_prior.probability.prepared import SMALL_VARIANCE, PreparedKernel
from nngp_prior.probability.proposals import USUAL_SHARES, allocate, build_proposals, optimal_shares
from nngp_prior.probability.registry import ESTIMATORS
from nngp_prior.progress import Progress, ProgressCallback
from nngp_prior.schemas.estimate import Estimate, Replicates, Status
from nngp_prior.schemas.estimator import SMC

_PILOT_REPLICATES = 8
# A tail is heavy where its shape says so and one weight carries a visible part of the variance estimate. The shape
# alone misleads: k̂ is large on weights that hardly vary, whatever their size.
_PARETO_K_TRUSTED = 0.7
_LARGEST_SHARE_TRUSTED = 0.06
_EVEN_REPLICATES = 1 / 3  # effective number of replicates, as a part, below which their spread says little


@ESTIMATORS.register(SMC)
def estimate_smc(
    kernel: PreparedKernel, labels: np.ndarray, parameters: SMC, seed: int, progress: ProgressCallback
) -> Estimate:
    """EP, a pilot that chooses the mixture, then independent replicates until the target is met.

    The pilot's particles are not used again: given the mixture, each replicate is an unbiased estimate of P.

    Returns:
        the estimate.
    """
    began = time.perf_counter()
    dtype = np.float32 if kernel.smallest_conditional_variance > SMALL_VARIANCE else np.float64
    ep = expectation_propagation(kernel, labels, parameters, progress, dtype)
    proposals = build_proposals(kernel, ep)
    diagnostics = ep_diagnostics(kernel, ep)
    del ep  # and its factor
    shares = parameters.shares
    if shares is None:
        equal = allocate(np.full(len(proposals), 1 / len(proposals)), parameters.particles)
        pilot_mixture = make_mixture(kernel, labels, proposals, equal)
        pilot = _run(pilot_mixture, parameters, seed, "pilot", 0, _PILOT_REPLICATES, False, progress)
        shares = optimal_shares(
            np.concatenate([o.log_target for o in pilot]),
            np.concatenate([o.log_proposal for o in pilot], axis=1),
            USUAL_SHARES,
        )
    mixture = make_mixture(kernel, labels, proposals, allocate(np.array(shares), parameters.particles))
    del proposals
    outcomes: list[Outcome] = []
    evidence = None
    for first, last in _rounds(parameters):
        outcomes += _run(mixture, parameters, seed, "replicate", first, last, True, progress)
        evidence = Replicates(log_estimates=tuple(np.concatenate([o.log_estimates for o in outcomes]).tolist()))
        if parameters.target_stderr is None or evidence.stderr() <= parameters.target_stderr:
            break
    assert evidence is not None
    log_weights = np.concatenate([o.log_weights for o in outcomes])
    k_hat, share = pareto_k(log_weights), largest_share(log_weights)
    heavy_tail = k_hat is not None and k_hat > _PARETO_K_TRUSTED and share > _LARGEST_SHARE_TRUSTED
    status, message = _verdict(evidence, heavy_tail, parameters)
    return Estimate(
        value=evidence.value(),
        stderr=evidence.stderr(),
        n=kernel.n,
        method="smc",
        status=status,
        message="; ".join(part for part in (message, kernel.note()) if part),
        diagnostics={
            **diagnostics,
            "replicates": len(evidence.log_estimates),
            "particles": parameters.particles,
            "shares": [float(f"{share:.3g}") for share in shares],
            "effective_sample_size": effective_sample_size(log_weights),
            "pareto_k": k_hat,
            "largest_share_of_variance": share,
            "resamplings": sum(o.resamplings for o in outcomes),
        },
        seconds=time.perf_counter() - began,
        evidence=evidence,
    )


def _rounds(parameters: SMC) -> Iterator[tuple[int, int]]:
    """Ranges of replicates: the first ones, then as many again each time, up to the largest number."""
    first, last = 0, parameters.replicates
    while True:
        yield first, last
        if last >= parameters.max_replicates:
            return
        first, last = last, min(2 * last, parameters.max_replicates)


def _run(
    mixture: Mixture,
    parameters: SMC,
    seed: int,
    name: str,
    first: int,
    last: int,
    resample: bool,
    progress: ProgressCallback,
) -> list[Outcome]:
    """Replicates first … last - 1, in groups, one group a core at a time; each has a generator of its own."""
    columns, threads = (COLUMNS_ON_DEVICE, 1) if mixture.on_device else (COLUMNS, cores())
    size = max(1, columns // parameters.particles)
    groups = [range(start, min(start + size, last)) for start in range(first, last, size)]
    rank = len(mixture.proposals[0].mean)
    done, total, lock, stop = 0, rank * len(groups), threading.Lock(), threading.Event()

    def run_group(group: range) -> Outcome:
        visited_before = 0

        def step(visited: int) -> None:
            nonlocal done, visited_before
            if stop.is_set():
                raise InterruptedError("another group of replicates failed, or the run was interrupted")
            with lock:
                done += visited - visited_before
                visited_before = visited
                progress(Progress(f"{name}s", done, total))

        return run_replicates(mixture, [generator(seed, name, r) for r in group], resample, step)

    workers = min(len(groups), threads)
    with threadpool_limits(1 if workers > 1 else None, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        try:
            return list(pool.map(run_group, groups))
        except BaseException:
            stop.set()  # the pool waits for its threads: let them end at their next block
            raise


def _verdict(evidence: Replicates, heavy_tail: bool, parameters: SMC) -> tuple[Status, str]:
    log_z = np.array(evidence.log_estimates)
    if np.all(np.isneginf(log_z)):
        return "no-hits", (
            "no particle satisfied the constraints on inputs that others determine (K is singular): "
            "P is 0 or far below what these particles resolve; try more particles"
        )
    effective = math.exp(2 * float(logsumexp(log_z)) - float(logsumexp(2 * log_z)))
    if heavy_tail or effective < _EVEN_REPLICATES * len(log_z):
        return "heavy-tailed", (
            "few particles carry the estimate: its standard error may be too small, the lower bound still holds; "
            "use more particles a replicate"
        )
    if parameters.target_stderr is not None and evidence.stderr() > parameters.target_stderr:
        return "target-not-met", (
            f"standard error {evidence.stderr():.2g} after {len(log_z)} replicates where {parameters.target_stderr:g} "
            "was asked for; raise max_replicates or particles"
        )
    return "ok", ""
