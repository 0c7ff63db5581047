"""The default estimator: sequential Monte Carlo with EP's proposals in a defensive mixture.

Lineage: separation of variables (Genz 1992; Geweke, Hajivassiliou, Keane); SMC for orthants (Ridgway 2016); twisting
with deterministic approximations (Lindsten, Helske, Vihola 2018); defensive mixtures (Hesterberg 1995; Owen & Zhou
2000).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from nngp_prior.probability.ep import Sites
from nngp_prior.probability.factored_kernel import FactoredKernel
from nngp_prior.probability.particles import ReplicateOutcome, make_mixture
from nngp_prior.probability.plan import plan
from nngp_prior.probability.proposals import allocate
from nngp_prior.probability.registry import ESTIMATORS
from nngp_prior.probability.replicates import evidence_of, judge, run_in_threads
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.results.estimate import Estimate, Replicates
from nngp_prior.schemas.specs.estimator import SMC

_GROWTH = 1.3  # factor on the number of replicates required by the spread so far, which is itself uncertain


@ESTIMATORS.register(SMC)
def estimate_smc(
    kernel: FactoredKernel,
    labels: np.ndarray,
    parameters: SMC,
    seed: int,
    progress: ProgressCallback,
    start: Sites | None = None,
    on_sites: Callable[[Sites], None] | None = None,
) -> Estimate:
    """Run EP, a pilot that chooses the mixture, then independent replicates until the target is met.

    The pilot's particles are not reused: given the mixture, each replicate is an unbiased estimate of P.

    Returns:
        the estimate.
    """
    began = time.perf_counter()
    planned = plan(kernel, labels, parameters, seed, progress, start=start, on_sites=on_sites)
    particles, compiled, shares, diagnostics = planned.particles, planned.compiled, planned.shares, planned.diagnostics
    mixture = make_mixture(kernel, labels, planned.proposals, allocate(shares, particles))
    del planned
    outcomes: list[ReplicateOutcome] = []
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


def _next_goal(evidence: Replicates, parameters: SMC) -> int:
    """Return the total number of replicates required, at most ``max_replicates``; the present number if sufficient."""
    done = len(evidence.log_estimates)
    if parameters.target_stderr is None or evidence.stderr() <= parameters.target_stderr:
        return done
    ratio = evidence.stderr() / parameters.target_stderr
    wanted = done * min(_GROWTH * ratio**2, 8.0) if math.isfinite(ratio) else 2 * done
    return max(min(math.ceil(wanted), parameters.max_replicates), done)
