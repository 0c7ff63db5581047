r"""Particles through the orthant: sequential Monte Carlo under a mixture of proposals.

A trajectory g drawn from the mixture Σ_j α_j π_j has weight N(g; 0, K') 1[g > 0] / Σ_j α_j π_j(g), whose mean is P
for any proposals. Densities under all proposals are needed for every trajectory: each proposal's whitened variables
ε_j = L_j⁻¹ (g - μ_j) are followed along. Where weights have become uneven, particles are resampled and the next
segment is drawn from the mixture afresh; the intermediate target is then a proposal's own, N(g_≤i; 0, K') 1[g_≤i > 0]
ψ(g_≤i), ψ its sites' message from the future.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import log_ndtr, logsumexp

from nngp_prior.numerics.gaussian import draw_half_line
from nngp_prior.numerics.random import scrambled_sobol
from nngp_prior.probability.prepared import PreparedKernel
from nngp_prior.probability.proposals import Proposal

_BLOCK = 64
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
_RESAMPLE_BELOW = 0.5  # effective sample size as a part of the particles
_SMALLEST_OWN_PART = 1e-10  # of d = 1 - s v, which rounding could make 0 or negative


@dataclass(frozen=True)
class Mixture:
    """Proposals and how many of a replicate's particles each one draws.

    The first proposal is the prior's: it carries the target density, so that it is followed even if it draws none.

    Attributes:
        proposals: at least two.
        counts: particles for each.
        determined: rows of the prior's factor for the coordinates that the first ones determine.
    """

    proposals: list[Proposal]
    counts: list[int]
    determined: Float[np.ndarray, "rest rank"]

    @property
    def particles(self) -> int:
        """Particles of one replicate."""
        return sum(self.counts)

    @property
    def guide(self) -> int:
        """The proposal whose message from the future guides resampling: the one that draws most."""
        return int(np.argmax(self.counts[1:])) + 1


def make_mixture(
    kernel: PreparedKernel, labels: Float[np.ndarray, " m"], proposals: list[Proposal], counts: np.ndarray
) -> Mixture:
    """A mixture without the proposals that draw nothing (the prior and at least one other stay)."""
    used = [0] + [j for j in range(1, len(proposals)) if counts[j] > 0]
    if len(used) == 1:
        used.append(1)
    determined = kernel.signed_factor(labels, slice(kernel.rank, None))
    return Mixture([proposals[j] for j in used], [int(counts[j]) for j in used], determined)


@dataclass
class Outcome:
    """What came of some replicates.

    Attributes:
        log_estimates: log Ẑ of each.
        log_weights: of each particle, on the same scale: a replicate's estimate is the mean of its weights.
        resamplings: number of them, over all replicates.
        log_target: log density of the target, of each particle, from the last resampling on.
        log_proposal: the same for each proposal.
    """

    log_estimates: Float[np.ndarray, " replicates"]
    log_weights: Float[np.ndarray, "replicates particles"]
    resamplings: int
    log_target: Float[np.ndarray, " columns"]
    log_proposal: Float[np.ndarray, "proposals columns"]


def run_replicates(
    mixture: Mixture,
    generators: list[np.random.Generator],
    resample: bool = True,
    step: Callable[[int], None] = lambda _: None,
) -> Outcome:
    """Run independent replicates side by side, as columns of the same matrices.

    Args:
        mixture: what trajectories are drawn from.
        generators: one a replicate.
        resample: False gives plain importance sampling.
        step: told how many coordinates have been visited.

    Returns:
        log Ẑ of each replicate, and its weights.
    """
    return _Run(mixture, generators).go(resample, step)


class _Run:
    """The state of some replicates' particles. Columns are ordered by proposal, then replicate, then particle."""

    def __init__(self, mixture: Mixture, generators: list[np.random.Generator]) -> None:
        self.mixture, self.generators = mixture, generators
        proposals, counts = mixture.proposals, mixture.counts
        self.rank = len(proposals[0].mean)
        self.replicates, self.particles = len(generators), mixture.particles
        columns = self.replicates * self.particles
        ends = np.cumsum([self.replicates * count for count in counts])
        self.drawn_by = [slice(end - self.replicates * count, end) for end, count in zip(ends, counts, strict=True)]
        self.of_replicate = np.hstack(
            [
                np.arange(own.start, own.stop).reshape(self.replicates, count)
                for own, count in zip(self.drawn_by, counts, strict=True)
            ]
        )
        self.log_u = np.empty((self.rank, columns))
        for rng, own in zip(generators, self.of_replicate, strict=True):
            self.log_u[:, own] = scrambled_sobol(self.rank, self.particles, rng)
        np.log(self.log_u, out=self.log_u)
        with np.errstate(divide="ignore"):
            self.log_shares = np.log(np.array(counts) / self.particles)[:, None]
        self.epsilon = [np.empty((self.rank, columns), dtype=proposal.L.dtype) for proposal in proposals]
        self.log_target = np.zeros(columns)
        self.log_proposal = np.zeros((len(proposals), columns))
        self.log_message = np.zeros(columns)  # log γ - log π of the guide
        self.log_start = np.zeros(columns)  # log γ where the segment began
        self.log_z = np.zeros(self.replicates)
        self.resamplings = 0

    def go(self, resample: bool, step: Callable[[int], None]) -> Outcome:
        for start in range(0, self.rank, _BLOCK):
            stop = min(start + _BLOCK, self.rank)
            self.advance(start, stop)
            if resample and stop < self.rank:
                self.resample_where_uneven(stop)
            step(stop)
        if len(self.mixture.determined):
            self.log_target[self.violates_determined()] = -np.inf
        log_weights = (self.log_target - self.log_start - self.log_mixture())[self.of_replicate]
        log_weights += self.log_z[:, None]
        return Outcome(
            logsumexp(log_weights, axis=1) - math.log(self.particles),
            log_weights,
            self.resamplings,
            self.log_target - self.log_start,
            self.log_proposal,
        )

    def advance(self, start: int, stop: int) -> None:
        """Draw coordinates start … stop of all particles and follow their densities."""
        proposals, guide = self.mixture.proposals, self.mixture.guide
        count, columns = len(proposals), self.log_target.shape[0]
        block = slice(start, stop)
        means = np.empty((count, stop - start, columns))
        for j, proposal in enumerate(proposals):
            means[j] = proposal.L[block, :start] @ self.epsilon[j][:start]
            means[j] += proposal.mean[block, None]
        L = np.stack([proposal.L[block, block] for proposal in proposals]).astype(np.float64)
        precision = np.stack([proposal.precision[block] for proposal in proposals])
        shift = np.stack([proposal.shift[block] for proposal in proposals])
        deviation = np.diagonal(L, axis1=1, axis2=2)
        variance = deviation**2
        own_part = np.maximum(1 - precision * variance, _SMALLEST_OWN_PART)
        own_deviation = deviation / np.sqrt(own_part)  # √v'
        log_density_constant = -np.log(own_deviation) - _HALF_LOG_2PI
        epsilon = np.empty((count, stop - start, columns))
        g = np.empty(columns)
        for k in range(stop - start):
            m = means[:, k]
            if k:
                m += (L[:, None, k, :k] @ epsilon[:, :k])[:, 0]
            sd = own_deviation[:, k, None]
            # z = m'/√v'
            z = (m - (shift[:, k] * variance[:, k])[:, None]) / (own_part[:, k, None] * sd)
            log_phi = log_ndtr(z)
            for j, own in enumerate(self.drawn_by):
                if own.start < own.stop:
                    g[own] = sd[j] * draw_half_line(z[j, own], log_phi[j, own], self.log_u[start + k, own])
            epsilon[:, k] = (g - m) / deviation[:, k, None]
            self.log_proposal += log_density_constant[:, k, None] - 0.5 * (g / sd - z) ** 2 - log_phi
            self.log_target -= 0.5 * epsilon[0, k] ** 2 + (math.log(deviation[0, k]) + _HALF_LOG_2PI)
            s, nu, v, d = precision[guide, k], shift[guide, k], variance[guide, k], own_part[guide, k]
            m = m[guide]
            self.log_message += log_phi[guide] - 0.5 * math.log(d)
            self.log_message += (0.5 / d) * (s * m * m - 2 * nu * m + nu * nu * v)
        for j in range(count):
            self.epsilon[j][block] = epsilon[j]

    def log_mixture(self) -> np.ndarray:
        return logsumexp(self.log_proposal + self.log_shares, axis=0)

    def log_gamma(self) -> np.ndarray:
        """The guide's intermediate target, up to a constant that cancels at the next resampling or never enters."""
        return self.log_message + self.log_proposal[self.mixture.guide]

    def resample_where_uneven(self, visited: int) -> None:
        """Systematic resampling of the replicates whose effective sample size has fallen under the threshold."""
        log_gamma = self.log_gamma()
        log_weights = (log_gamma - self.log_start - self.log_mixture())[self.of_replicate]
        peak = log_weights.max(axis=1, keepdims=True)
        weights = np.exp(log_weights - peak)
        effective = weights.sum(axis=1) ** 2 / np.square(weights).sum(axis=1)
        for r in np.flatnonzero(effective < _RESAMPLE_BELOW * self.particles):
            self.resamplings += 1
            own, rng = self.of_replicate[r], self.generators[r]
            self.log_z[r] += peak[r, 0] + math.log(weights[r].mean())
            cumulative = np.cumsum(weights[r])
            grid = (np.arange(self.particles) + rng.random()) * (cumulative[-1] / self.particles)
            ancestors = np.minimum(np.searchsorted(cumulative, grid), self.particles - 1)
            # Which proposal continues a trajectory must not depend on its place among the ancestors.
            parents = own[rng.permutation(ancestors)]
            for epsilon in self.epsilon:
                epsilon[:visited, own] = epsilon[:visited, parents]
            self.log_target[own] = self.log_target[parents]
            self.log_start[own] = self.log_message[own] = log_gamma[parents]
            self.log_proposal[:, own] = 0.0

    def violates_determined(self) -> np.ndarray:
        """Which particles break a constraint on a coordinate that the others determine."""
        violated = np.zeros(self.log_target.shape, dtype=bool)
        for start in range(0, len(self.mixture.determined), 1024):
            violated |= (self.mixture.determined[start : start + 1024] @ self.epsilon[0] <= 0).any(axis=0)
        return violated
