"""Preparation of smc's particles: sites by EP, proposals, and shares of their mixture from a pilot."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from nngp_prior.probability.cost import MOST_BY_DEFAULT, MOST_PARTICLES, require_memory_for_double
from nngp_prior.probability.ep import EPResult, Sites, ep_diagnostics, expectation_propagation
from nngp_prior.probability.factored_kernel import SMALL_VARIANCE, FactoredKernel
from nngp_prior.probability.particles import ReplicateOutcome, make_mixture
from nngp_prior.probability.proposals import USUAL_SHARES, Proposal, allocate, build_proposals, optimal_shares
from nngp_prior.probability.replicates import judge, run_in_threads, worth_compiling
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.specs.estimator import SMC

_PILOT_REPLICATES = 8
_PROBES = 8
# Standard deviation that rounding of the proposals may add to the logarithm of a weight; for useful proposals the
# logarithm has one of 0.2 or more.
_ROUNDING_OF_WEIGHTS = 0.05
_CONVERGED = 1e-3  # change of EP's means below which more sweeps do not improve a proposal
_UNEVEN = 10.0  # relative variance of the pilot's weights that justifies more sweeps at any size
_CHEAP = 2000  # number of constraints up to which a heavy tail in the pilot justifies them too
# Unless the number of particles is given: relative variance up to which the fewest particles are enough (above 2,000
# constraints it is _UNEVEN), the one from which 256 weights are too few to measure it, and particles per replicate of
# the larger pilot that then does.
_EVEN = 3.0
_DOUBTFUL = 2.0
_LARGER_PILOT = 128


@dataclass(frozen=True)
class ParticlePlan:
    """A mixture of proposals and the number of particles to draw from it.

    Attributes:
        proposals: the untwisted one, EP's, EP's widened.
        shares: shares of the mixture.
        particles: number of particles per replicate.
        compiled: True if blocks of coordinates are processed by compiled code.
        diagnostics: diagnostics of EP.
    """

    proposals: list[Proposal]
    shares: Float[np.ndarray, " proposals"]
    particles: int
    compiled: bool
    diagnostics: dict[str, float | int | str]


def plan(
    kernel: FactoredKernel,
    labels: Float[np.ndarray, " m"],
    parameters: SMC,
    seed: int,
    progress: ProgressCallback,
    *,
    start: Sites | None = None,
    on_sites: Callable[[Sites], None] | None = None,
    shares: Float[np.ndarray, " proposals"] | None = None,
) -> ParticlePlan:
    """Run EP and a pilot, and further sweeps if the pilot's weights are poor.

    Args:
        kernel: factored kernel.
        labels: ±1 for the inputs kept, in the order of visits.
        parameters: specification of the estimator.
        seed: seed of the labelling.
        progress: progress callback.
        start: initial sites.
        on_sites: called with EP's final sites.
        shares: shares of the mixture; default: from the pilot.

    Returns:
        the plan.
    """
    ep, proposals = _propose(kernel, labels, parameters, progress, start)
    particles, sweeps = parameters.fewest_particles, ep.sweeps
    compiled = worth_compiling(kernel.rank, len(proposals), particles * parameters.replicates)
    decided: dict[str, float | int] = {}
    if shares is None and parameters.shares is not None and parameters.target_stderr is None:
        shares = np.array(parameters.shares)
    if shares is None:
        pilot = _run_pilot(kernel, labels, proposals, particles, seed, progress, compiled)
        best, variance = _optimal(pilot)
        may_sweep = parameters.tolerance is None and sweeps < parameters.max_sweeps
        if may_sweep and _worth_sweeping(kernel, ep, pilot, variance):
            more = parameters.model_copy(
                update={
                    "tolerance": _CONVERGED,
                    "max_sweeps": parameters.max_sweeps - sweeps,
                    "precision": ep.precision,
                }
            )
            del proposals
            ep, proposals = _propose(kernel, labels, more, progress, ep.sites)
            sweeps += ep.sweeps
            pilot = _run_pilot(kernel, labels, proposals, particles, seed, progress, compiled)
            best, variance = _optimal(pilot)
        enough, doubtful = (_EVEN, _DOUBTFUL) if kernel.m <= _CHEAP else (_UNEVEN, _UNEVEN)
        if parameters.particles is not None:
            enough = doubtful = math.inf
        if variance > doubtful and particles < _LARGER_PILOT:
            pilot = _run_pilot(kernel, labels, proposals, _LARGER_PILOT, seed, progress, compiled, "larger pilot")
            best, variance = _optimal(pilot)
        shares = best if parameters.shares is None else np.array(parameters.shares)
        if parameters.particles is None and math.isfinite(variance):
            if parameters.target_stderr is not None:
                particles = _particles_for(parameters.target_stderr, variance, parameters)
            elif variance > enough:
                particles = MOST_BY_DEFAULT
            compiled = worth_compiling(kernel.rank, len(proposals), particles * parameters.replicates)
        decided["pilot_particles"] = sum(outcome.log_weights.size for outcome in pilot)
        decided["pilot_variance"] = variance
    if on_sites is not None:
        on_sites(ep.sites)
    diagnostics = {**ep_diagnostics(kernel, ep), "ep_sweeps": sweeps, "proposal_precision": str(ep.L.dtype), **decided}
    return ParticlePlan(proposals, shares, particles, compiled, diagnostics)


def _propose(
    kernel: FactoredKernel,
    labels: Float[np.ndarray, " m"],
    parameters: SMC,
    progress: ProgressCallback,
    start: Sites | None,
) -> tuple[EPResult, list[Proposal]]:
    """Run EP and build its proposals, in float32 if its rounding is negligible in the weights of particles."""
    if kernel.smallest_conditional_variance > SMALL_VARIANCE:
        ep = expectation_propagation(kernel, labels, parameters, progress, np.float32, start)
        if _rounding_of_weights(kernel, ep) < _ROUNDING_OF_WEIGHTS:
            return ep, build_proposals(kernel, ep)
        start = ep.sites if ep.converged else start
    require_memory_for_double(kernel.n, kernel.m)
    ep = expectation_propagation(kernel, labels, parameters, progress, np.float64, start)
    return ep, build_proposals(kernel, ep)


def _rounding_of_weights(kernel: FactoredKernel, ep: EPResult) -> float:
    r"""Return the root mean square error of log weights due to rounding of a proposal's factor L.

    For g = L z, z ~ N(0, I), the proposal's quadratic form is zᵀz, and the intended one is gᵀ(K'⁻¹ + S) g: that of the
    prior's factor, which is in float64, and of the sites. Half of their difference is the error; it grows with the
    condition of K', which the conditional variances in the order of visits do not show.

    Returns:
        the error in nats, over a few fixed z; NaN if EP failed.
    """
    rank, algebra = kernel.rank, kernel.algebra
    z = np.random.default_rng(0).standard_normal((rank, _PROBES))
    g = algebra.multiply(ep.L, z)
    epsilon = algebra.solve(kernel.L, g[:rank])
    error = np.square(epsilon).sum(axis=0) + ep.sites.precision @ np.square(g) - np.square(z).sum(axis=0)
    return float(np.sqrt(np.mean(np.square(error / 2))))


def _run_pilot(
    kernel: FactoredKernel,
    labels: Float[np.ndarray, " m"],
    proposals: list[Proposal],
    particles: int,
    seed: int,
    progress: ProgressCallback,
    compiled: bool,
    name: str = "pilot",
) -> list[ReplicateOutcome]:
    """Run plain importance sampling with equal shares; its particles are not reused."""
    mixture = make_mixture(kernel, labels, proposals, allocate(np.full(len(proposals), 1 / len(proposals)), particles))
    return run_in_threads(mixture, range(_PILOT_REPLICATES), seed, name, progress, compiled, resample=False)


def _worth_sweeping(kernel: FactoredKernel, ep: EPResult, pilot: list[ReplicateOutcome], variance: float) -> bool:
    """True if EP has not converged and the pilot's weights are very uneven, or heavy-tailed and sweeps cheap."""
    if not _CONVERGED <= ep.change < math.inf:
        return False
    if kernel.m <= _CHEAP and judge(pilot)[0] != "ok":
        return True
    return variance > _UNEVEN


def _optimal(pilot: list[ReplicateOutcome]) -> tuple[Float[np.ndarray, " proposals"], float]:
    """Return the best shares by the pilot, and the relative variance of the weights under them."""
    log_target = np.concatenate([outcome.log_target for outcome in pilot])
    log_proposal = np.concatenate([outcome.log_proposal for outcome in pilot], axis=1)
    return optimal_shares(log_target, log_proposal, USUAL_SHARES)


def _particles_for(target: float, variance: float, parameters: SMC) -> int:
    """Return the number of particles per replicate that should meet a standard error.

    Args:
        target: standard error of log P, nats.
        variance: relative variance of one weight.
        parameters: specification of the estimator.

    Returns:
        the fewest particles, doubled until ``replicates`` replicates have that standard error if weights are
        independent (Sobol points do better).
    """
    particles = parameters.fewest_particles
    while particles < min(variance / (target**2 * parameters.replicates), MOST_PARTICLES):
        particles *= 2
    return particles
