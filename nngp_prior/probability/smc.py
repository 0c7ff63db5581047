"""The default estimator: sequential Monte Carlo whose proposals are EP's, defended by a mixture.

Lineage: separation of variables (Genz 1992; Geweke, Hajivassiliou, Keane); SMC for orthants (Ridgway 2016); twisting
with deterministic approximations (Lindsten, Helske, Vihola 2018); defensive mixtures (Hesterberg 1995; Owen & Zhou
2000).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from nngp_prior.probability.cost import MOST_PARTICLES, require_memory_for_double
from nngp_prior.probability.ep import Sites, ep_diagnostics, expectation_propagation
from nngp_prior.probability.particles import Outcome, make_mixture
from nngp_prior.probability.prepared import SMALL_VARIANCE, PreparedKernel
from nngp_prior.probability.proposals import USUAL_SHARES, Proposal, allocate, build_proposals, optimal_shares
from nngp_prior.probability.registry import ESTIMATORS
from nngp_prior.probability.replicates import evidence_of, judge, run_in_threads, worth_compiling
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.estimate import Estimate, Replicates
from nngp_prior.schemas.estimator import SMC

_PILOT_REPLICATES = 8
_GROWTH = 1.3  # more replicates than the spread so far asks for: it is itself uncertain


@ESTIMATORS.register(SMC)
def estimate_smc(
    kernel: PreparedKernel,
    labels: np.ndarray,
    parameters: SMC,
    seed: int,
    progress: ProgressCallback,
    start: Sites | None = None,
    on_sites: Callable[[Sites], None] | None = None,
) -> Estimate:
    """EP, a pilot that chooses the mixture, then independent replicates until the target is met.

    The pilot's particles are not used again: given the mixture, each replicate is an unbiased estimate of P.

    Returns:
        the estimate.
    """
    began = time.perf_counter()
    proposals, diagnostics = propose(kernel, labels, parameters, progress, start, on_sites)
    compiled = worth_compiling(kernel.rank, len(proposals), parameters.particles * parameters.replicates)
    shares, particles = plan_mixture(kernel, labels, proposals, parameters, seed, progress, compiled)
    mixture = make_mixture(kernel, labels, proposals, allocate(shares, particles))
    del proposals
    outcomes: list[Outcome] = []
    first, last = 0, parameters.replicates
    while True:
        outcomes += run_in_threads(mixture, range(first, last), seed, "replicate", progress, compiled)
        evidence = evidence_of(outcomes)
        first, last = last, _next_goal(evidence, parameters)
        if last <= first:
            break
    status, message, weights = judge(outcomes)
    missed = parameters.target_stderr is not None and not evidence.stderr() <= parameters.target_stderr
    if status == "ok" and missed:
        status = "target-not-met"
        message = (
            f"standard error {evidence.stderr():.2g} after {first} replicates of {particles} particles where "
            f"{parameters.target_stderr:g} was asked for; raise max_replicates or particles"
        )
    return Estimate(
        value=evidence.value(),
        stderr=evidence.stderr(),
        n=kernel.n,
        method="smc",
        status=status,
        message="; ".join(part for part in (message, kernel.note()) if part),
        diagnostics={**diagnostics, **weights, "shares": [float(f"{share:.3g}") for share in shares]},
        seconds=time.perf_counter() - began,
        evidence=evidence,
    )


def propose(
    kernel: PreparedKernel,
    labels: np.ndarray,
    parameters: SMC,
    progress: ProgressCallback,
    start: Sites | None = None,
    on_sites: Callable[[Sites], None] | None = None,
) -> tuple[list[Proposal], dict[str, float | int | str]]:
    """EP, and what the particles of a labelling may be drawn from.

    Args:
        kernel: a prepared kernel.
        labels: ±1 for the inputs kept, in the order of visits.
        parameters: of EP.
        progress: told of its sweeps.
        start: sites to begin with.
        on_sites: given those that EP ended at.

    Returns:
        the proposals, and EP's figures.
    """
    dtype = np.float32 if kernel.smallest_conditional_variance > SMALL_VARIANCE else np.float64
    if dtype is np.float64:
        require_memory_for_double(kernel.n, kernel.m)
    ep = expectation_propagation(kernel, labels, parameters, progress, dtype, start)
    if on_sites is not None:
        on_sites(ep.sites)
    return build_proposals(kernel, ep), ep_diagnostics(kernel, ep)


def plan_mixture(
    kernel: PreparedKernel,
    labels: np.ndarray,
    proposals: list[Proposal],
    parameters: SMC,
    seed: int,
    progress: ProgressCallback,
    compiled: bool,
) -> tuple[Float[np.ndarray, " proposals"], int]:
    """Shares of the mixture and particles of a replicate, from a pilot with equal shares.

    Args:
        kernel: a prepared kernel.
        labels: ±1 for the inputs kept, in the order of visits.
        proposals: of the mixture.
        parameters: what was asked for.
        seed: the labelling's.
        progress: told of coordinates visited.
        compiled: whether what is done to a block of coordinates is.

    Returns:
        the shares asked for, or the best ones by the pilot; and as many particles as make ``replicates`` of them meet
        the target, if there is one and the pilot is right.
    """
    if parameters.shares is not None and parameters.target_stderr is None:
        return np.array(parameters.shares), parameters.particles
    equal = allocate(np.full(len(proposals), 1 / len(proposals)), parameters.particles)
    mixture = make_mixture(kernel, labels, proposals, equal)
    pilot = run_in_threads(mixture, range(_PILOT_REPLICATES), seed, "pilot", progress, compiled, resample=False)
    log_target = np.concatenate([o.log_target for o in pilot])
    log_proposal = np.concatenate([o.log_proposal for o in pilot], axis=1)
    best, variance = optimal_shares(log_target, log_proposal, USUAL_SHARES)
    shares = best if parameters.shares is None else np.array(parameters.shares)
    particles = parameters.particles
    if parameters.target_stderr is not None and math.isfinite(variance):
        wanted = variance / (parameters.target_stderr**2 * parameters.replicates)
        while particles < min(wanted, MOST_PARTICLES):
            particles *= 2
    return shares, particles


def _next_goal(evidence: Replicates, parameters: SMC) -> int:
    """How many replicates there should be in all, at most ``max_replicates``; no more than there are if that is it."""
    done = len(evidence.log_estimates)
    if parameters.target_stderr is None or evidence.stderr() <= parameters.target_stderr:
        return done
    ratio = evidence.stderr() / parameters.target_stderr
    wanted = done * min(_GROWTH * ratio**2, 8.0) if math.isfinite(ratio) else 2 * done
    return max(min(math.ceil(wanted), parameters.max_replicates), done)
