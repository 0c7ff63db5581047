r"""Particles through the orthant: sequential Monte Carlo under a mixture of proposals.

A trajectory g drawn from the mixture Σ_j α_j π_j has weight N(g; 0, K') 1[g > 0] / Σ_j α_j π_j(g), whose mean is P
for any proposals. Densities under all proposals are needed for every trajectory, so each proposal's whitened variables
ε_j = L_j⁻¹ (g - μ_j) are updated along it. Factors are without the labels' signs, so that all labellings share the
prior's: L' = diag(y) L diag(y), and y_i ε_i are stored. If weights have become uneven, particles are resampled and the
next segment is drawn from the mixture afresh; the intermediate target is then a proposal's own,
N(g_≤i; 0, K') 1[g_≤i > 0] ψ(g_≤i), ψ its sites' message from the future.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from nngp_prior.numerics.logarithms import log_sum_exp
from nngp_prior.numerics.random import scrambled_sobol, systematic
from nngp_prior.probability.factored_kernel import FactoredKernel
from nngp_prior.probability.numpy_particles import NumpyParticles
from nngp_prior.probability.proposals import Proposal, ProposalBlock, block_of

_RESAMPLE_BELOW = 0.5  # effective sample size as a fraction of the particles


@dataclass(frozen=True)
class Mixture:
    """Proposals and the number of a replicate's particles drawn from each.

    The first proposal is the prior's: it carries the target density, so that it is updated even if it draws none.

    Attributes:
        proposals: at least one.
        counts: number of particles for each proposal.
        labels: ±1, for all coordinates.
        determined: rows of the prior's factor for the coordinates that the first ones determine.
        blocks: data of blocks of coordinates, by their first one, as far as a run has needed them.
    """

    proposals: list[Proposal]
    counts: list[int]
    labels: Float[np.ndarray, " m"]
    determined: Float[Any, "rest rank"]
    blocks: dict[int, ProposalBlock] = field(default_factory=dict)

    @property
    def on_device(self) -> bool:
        """True if the factors are arrays on a device; the particles are then on the device too."""
        return self.proposals[0].algebra.on_device

    @property
    def particles(self) -> int:
        """Number of particles of one replicate."""
        return sum(self.counts)

    @property
    def guide(self) -> int:
        """Index of the proposal whose message guides resampling: the one with sites that draws most."""
        return int(np.argmax(self.counts[1:])) + 1 if len(self.counts) > 1 else 0


def make_mixture(
    kernel: FactoredKernel, labels: Float[np.ndarray, " m"], proposals: list[Proposal], counts: np.ndarray
) -> Mixture:
    """Return a mixture without proposals that draw nothing; the prior and, if any, one other as guide are kept."""
    used = [0] + [j for j in range(1, len(proposals)) if counts[j] > 0]
    if len(used) == 1 < len(proposals):
        used.append(1)
    determined = kernel.algebra.rows(kernel.L, kernel.rank, kernel.m)
    return Mixture([proposals[j] for j in used], [int(counts[j]) for j in used], labels, determined)


@dataclass
class ReplicateOutcome:
    """Results of a group of replicates.

    Attributes:
        log_estimates: log Ẑ of each replicate.
        log_weights: log weight of each particle, on the same scale: a replicate's estimate is the mean of its weights.
        resamplings: number of resamplings, over all replicates.
        log_target: log density of the target at each particle, from the last resampling on.
        log_proposal: the same for each proposal.
        epsilon: L⁻¹ f of each particle if kept, L the prior's factor: f = L ε are outputs without the labels' signs,
            and with the weights a sample of f given the labels.
    """

    log_estimates: Float[np.ndarray, " replicates"]
    log_weights: Float[np.ndarray, "replicates particles"]
    resamplings: int
    log_target: Float[np.ndarray, " columns"]
    log_proposal: Float[np.ndarray, "proposals columns"]
    epsilon: Float[np.ndarray, "rank replicates particles"] | None = None


def run_replicates(
    mixture: Mixture,
    generators: list[np.random.Generator],
    resample: bool = True,
    compiled: bool = False,
    step: Callable[[int], None] = lambda _: None,
    dimensions: int | None = None,
    keep: bool = False,
) -> ReplicateOutcome:
    """Run independent replicates side by side, as columns of the same matrices.

    Args:
        mixture: mixture from which trajectories are drawn.
        generators: random generators, one per replicate.
        resample: False for plain importance sampling.
        compiled: True to use compiled code, at a second or two of compiling per process.
        step: called with the number of coordinates visited.
        dimensions: dimension of the points whose leading coordinates are used; default: the number of coordinates.
            Runs with the same dimension, and generators in the same state, have the same random numbers.
        keep: True to keep the particles.

    Returns:
        log Ẑ of each replicate, and its weights.
    """
    run = _Run(mixture, generators, compiled, dimensions)
    outcome = run.go(resample, step)
    if keep:
        outcome.epsilon = run.state.whitened()[:, run.of_replicate]
    return outcome


@runtime_checkable
class _Particles(Protocol):
    """Particles of one back end; ``block`` coordinates are drawn at a time."""

    block: int

    def follow(self, block: ProposalBlock, y: np.ndarray, guide: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...
    def reorder(self, columns: np.ndarray, parents: np.ndarray) -> None: ...
    def violates(self, L: Any, y: np.ndarray) -> np.ndarray: ...
    def whitened(self) -> np.ndarray: ...


def _particles(mixture: Mixture, drawn_by: np.ndarray, log_u: np.ndarray, compiled: bool) -> _Particles:
    """Return particles on the device or host of the proposals' factors."""
    if not mixture.on_device:
        return NumpyParticles(mixture.proposals, drawn_by, log_u, compiled)
    from nngp_prior.probability.jax_particles import JaxParticles

    return JaxParticles(mixture.proposals, drawn_by, log_u)


class _Run:
    """The state of some replicates' particles. Columns are ordered by proposal, then replicate, then particle."""

    def __init__(
        self, mixture: Mixture, generators: list[np.random.Generator], compiled: bool, dimensions: int | None
    ) -> None:
        self.mixture, self.generators = mixture, generators
        proposals, counts = mixture.proposals, mixture.counts
        self.rank = len(proposals[0].mean)
        self.replicates, self.particles = len(generators), mixture.particles
        columns = self.replicates * self.particles
        drawn_by = np.repeat(np.arange(len(counts)), [self.replicates * count for count in counts])
        ends = np.cumsum([self.replicates * count for count in counts])
        self.of_replicate = np.hstack(
            [
                np.arange(end - self.replicates * count, end).reshape(self.replicates, count)
                for end, count in zip(ends, counts, strict=True)
            ]
        )
        points = scrambled_sobol(dimensions or self.rank, self.particles, generators)[: self.rank]
        np.log(points, out=points)
        log_u = np.hstack(
            [part.reshape(self.rank, -1) for part in np.split(points, np.cumsum(counts)[:-1], axis=2)]  # by proposal
        )
        del points
        self.state = _particles(mixture, drawn_by, log_u, compiled)
        with np.errstate(divide="ignore"):
            self.log_shares = np.log(np.array(counts) / self.particles)[:, None]
        self.log_target = np.zeros(columns)
        self.log_proposal = np.zeros((len(proposals), columns))
        self.log_message = np.zeros(columns)  # log γ - log π of the guide
        self.log_start = np.zeros(columns)  # log γ where the segment began
        self.log_z = np.zeros(self.replicates)
        self.resamplings = 0

    def go(self, resample: bool, step: Callable[[int], None]) -> ReplicateOutcome:
        mixture = self.mixture
        for start in range(0, self.rank, self.state.block):
            coordinates = slice(start, min(start + self.state.block, self.rank))
            y = mixture.labels[coordinates]
            block = mixture.blocks.get(start)
            if block is None:
                block = mixture.blocks[start] = block_of(mixture.proposals, coordinates, y)
            changes = self.state.follow(block, y, mixture.guide)
            for total, change in zip((self.log_target, self.log_proposal, self.log_message), changes, strict=True):
                total += change
            if resample and coordinates.stop < self.rank:
                self.resample_where_uneven()
            step(coordinates.stop)
        if len(mixture.determined):
            broken = self.state.violates(mixture.determined, mixture.labels[self.rank :])
            self.log_target[broken > 0] = -np.inf
        log_weights = (self.log_target - self.log_start - self.log_mixture())[self.of_replicate]
        log_weights += self.log_z[:, None]
        return ReplicateOutcome(
            log_sum_exp(log_weights, axis=1) - math.log(self.particles),
            log_weights,
            self.resamplings,
            self.log_target - self.log_start,
            self.log_proposal,
        )

    def log_mixture(self) -> np.ndarray:
        return log_sum_exp(self.log_proposal + self.log_shares, axis=0)

    def log_gamma(self) -> np.ndarray:
        """Return the guide's intermediate target, up to a constant that cancels or does not enter."""
        return self.log_message + self.log_proposal[self.mixture.guide]

    def resample_where_uneven(self) -> None:
        """Resample systematically the replicates whose effective sample size is below the threshold."""
        log_gamma = self.log_gamma()
        log_weights = (log_gamma - self.log_start - self.log_mixture())[self.of_replicate]
        peak = log_weights.max(axis=1, keepdims=True)
        weights = np.exp(log_weights - peak)
        effective = weights.sum(axis=1) ** 2 / np.square(weights).sum(axis=1)
        for r in np.flatnonzero(effective < _RESAMPLE_BELOW * self.particles):
            self.resamplings += 1
            own, rng = self.of_replicate[r], self.generators[r]
            self.log_z[r] += peak[r, 0] + math.log(weights[r].mean())
            # The order is random: the proposal that continues a trajectory must not depend on its index.
            parents = own[systematic(weights[r], self.particles, rng)]
            self.state.reorder(own, parents)
            self.log_target[own] = self.log_target[parents]
            self.log_start[own] = self.log_message[own] = log_gamma[parents]
            self.log_proposal[:, own] = 0.0
