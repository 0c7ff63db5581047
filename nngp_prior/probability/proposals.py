r"""Gaussian proposals for the orthant, and their mixture.

A proposal visits g_1, g_2, … in turn. Its Gaussian q(g) ∝ N(g; 0, K') Π_i exp(-½ s_i g_i² + ν_i g_i) gives g_i, given
the past, a mean m and a variance v (from the Cholesky factor of its covariance: v = L_ii²), which hold the sites'
messages from the future. Its own site is taken out and the exact constraint put in:

.. math:: d = 1 - s_i v, \quad v' = v/d, \quad m' = (m - ν_i v)/d, \quad g_i ~ N(m', v') \text{ given } g_i > 0 .

Three sets of sites are used: none (the untwisted proposal of Geweke, Hajivassiliou and Keane, whose weights are at
most 1), EP's, and EP's widened. Widening keeps the mean μ and multiplies the sites' precision by β: (s, ν) → (β s, ν -
(1 - β) s μ), since (K'⁻¹ + β S) μ = ν - (1 - β) S μ. It gives the tails that EP's Gaussian lacks along the leading
directions, where the true posterior has the prior's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from scipy.special import logsumexp

from nngp_prior.numerics.backends import Algebra
from nngp_prior.probability.ep import EPResult
from nngp_prior.probability.factored_kernel import FactoredKernel

# β for labellings that are likely under the prior, whose tails matter, and for all others, for which a proposal nearer
# EP's own Gaussian gains most.
_WIDENING_SIMPLE, _WIDENING = 0.12, 0.5
_SIMPLE_ABOVE = -24.0  # of EP's log P
DEFENSIVE_SHARE = 1 / 16
# Shares towards which the pilot's are shrunk if its weights are uninformative; adequate for simple and hard labellings.
USUAL_SHARES = np.array([DEFENSIVE_SHARE, 0.7, 0.3 - DEFENSIVE_SHARE])
_PRIOR_EFFECTIVE_SAMPLES = 50
_SMALLEST_OWN_PART = 1e-10  # lower bound on d = 1 - s v, which rounding could make 0 or negative


@dataclass(frozen=True)
class Proposal:
    """One Gaussian proposal, for the first ``rank`` coordinates (they determine the others).

    The numbers are taken as exact, whatever their rounding: any values are valid, since weights are divided by the
    density that they define.

    Attributes:
        L: factor of diag(y) Σ diag(y), the covariance without the labels' signs.
        mean: mean of the Gaussian.
        precision: s of the own sites.
        shift: ν of the own sites.
        algebra: linear algebra of ``L``, on the host or on a device.
    """

    L: Float[Any, "rank rank"]
    mean: Float[np.ndarray, " rank"]
    precision: Float[np.ndarray, " rank"]
    shift: Float[np.ndarray, " rank"]
    algebra: Algebra


def untwisted(kernel: FactoredKernel) -> Proposal:
    """Return the prior's proposal, which ignores later constraints; its factor is the kernel's own array."""
    zeros = np.zeros(kernel.rank)
    return Proposal(kernel.algebra.rows(kernel.L, 0, kernel.rank), zeros, zeros, zeros, kernel.algebra)


def build_proposals(kernel: FactoredKernel, ep: EPResult) -> list[Proposal]:
    """Build the untwisted proposal, EP's, and EP's widened.

    If EP failed, as it does on labellings that a singular kernel forbids, the untwisted one replaces both.

    Args:
        kernel: a factored kernel.
        ep: sites, factor and mean of EP.

    Returns:
        the proposals; the first is exactly the prior, in float64, since weights need its density, the others are in
        EP's precision.
    """
    rank = kernel.rank
    s, nu, mean = ep.sites.precision, ep.sites.shift, ep.mean
    beta = _WIDENING_SIMPLE if ep.log_z > _SIMPLE_ABOVE else _WIDENING
    widened, log_determinant = kernel.algebra.posterior_factor(kernel.L, beta * s, ep.L.dtype.type)
    if not (np.all(np.isfinite(mean)) and math.isfinite(log_determinant)):
        return [untwisted(kernel)] * 3

    def leading(L: Any) -> Any:
        return kernel.algebra.rows(L, 0, rank)

    return [
        untwisted(kernel),
        Proposal(leading(ep.L), mean[:rank], s[:rank], nu[:rank], kernel.algebra),
        Proposal(leading(widened), mean[:rank], beta * s[:rank], (nu - (1 - beta) * s * mean)[:rank], kernel.algebra),
    ]


@dataclass(frozen=True)
class ProposalBlock:
    """Data of a block of coordinates that do not depend on the particles, for every proposal; rows are proposals.

    With d = 1 - s v, z = m'/√v' = (m - ν v)/(d √v') = slope · m - offset.

    Attributes:
        coordinates: coordinates of the block.
        L: the block on the diagonal of the factor, with the labels' signs.
        conditional_deviation: √v.
        deviation: √v'.
        slope: as above.
        offset: as above.
        quadratic: coefficient of m² in the message from the future, ½ (s m² - 2 ν m + ν² v)/d - ½ log d.
        linear: coefficient of m.
        constant: the constant term, summed over the block.
    """

    coordinates: slice
    L: Float[np.ndarray, "proposals size size"]
    conditional_deviation: Float[np.ndarray, "proposals size"]
    deviation: Float[np.ndarray, "proposals size"]
    slope: Float[np.ndarray, "proposals size"]
    offset: Float[np.ndarray, "proposals size"]
    quadratic: Float[np.ndarray, "proposals size"]
    linear: Float[np.ndarray, "proposals size"]
    constant: Float[np.ndarray, " proposals"]


def block_of(proposals: list[Proposal], coordinates: slice, y: Float[np.ndarray, " size"]) -> ProposalBlock:
    """Extract one block from all proposals.

    Args:
        proposals: all proposals.
        coordinates: coordinates of the block.
        y: their labels.

    Returns:
        the block.
    """
    L = np.stack([proposal.algebra.block(proposal.L, coordinates) for proposal in proposals]).astype(np.float64)
    L *= np.multiply.outer(y, y)
    precision = np.stack([proposal.precision[coordinates] for proposal in proposals])
    shift = np.stack([proposal.shift[coordinates] for proposal in proposals])
    conditional_deviation = np.diagonal(L, axis1=1, axis2=2)
    variance = conditional_deviation**2
    part = np.maximum(1 - precision * variance, _SMALLEST_OWN_PART)
    deviation = conditional_deviation / np.sqrt(part)
    slope = 1 / (part * deviation)
    return ProposalBlock(
        coordinates,
        L,
        conditional_deviation,
        deviation,
        slope,
        shift * variance * slope,
        precision / (2 * part),
        -shift / part,
        (0.5 * shift**2 * variance / part - 0.5 * np.log(part)).sum(axis=1),
    )


def optimal_shares(
    log_target: Float[np.ndarray, " particles"],
    log_proposal: Float[np.ndarray, "proposals particles"],
    usual: Float[np.ndarray, " proposals"],
) -> tuple[Float[np.ndarray, " proposals"], float]:
    r"""Return the shares α that minimise the variance of the mixture's weights, from a pilot with equal shares.

    The second moment ∫ γ²/Σ_j α_j π_j is convex in α (He & Owen 2014). Its stationarity condition,
    E[w² π_j/Σ α π] equal for all j with α_j > 0, is iterated as a multiplicative update.

    Args:
        log_target: log γ of the pilot's trajectories.
        log_proposal: log π_j of the same.
        usual: shares to shrink towards if the pilot's weights are too uneven to be informative; that of the first
            proposal, which bounds the weights, is also its minimum.

    Returns:
        the shares, and the relative variance of the weights under the best ones, infinite if none is positive.
    """
    count = len(log_proposal)
    if np.all(np.isneginf(log_target)):
        return usual, math.inf
    # Densities relative to the largest of each particle, so that the mixture's sum cannot underflow to 0.
    largest = log_proposal.max(axis=0)
    density = np.exp(log_proposal - largest)
    log_drawn = largest + np.log(density.mean(axis=0))
    log_weights = log_target - largest + log_target - log_drawn
    shares = np.full(count, 1 / count)
    smallest = np.array([usual[0]] + [1e-12] * (count - 1))  # a share of 0 would stay 0
    importance = log_second_moment = np.zeros(0)
    for _ in range(100):
        mixture = shares @ density
        log_second_moment = log_weights - np.log(mixture)
        importance = np.exp(log_second_moment - log_second_moment.max())
        importance /= importance.sum()
        shares = shares * np.sqrt(density @ (importance / mixture))
        shares = np.maximum(shares / shares.sum(), smallest)
        shares /= shares.sum()
    effective = 1 / float(np.sum(importance**2))
    trust = effective / (effective + _PRIOR_EFFECTIVE_SAMPLES)
    log_moments = [logsumexp(a) - np.log(len(a)) for a in (log_target - log_drawn, log_second_moment)]
    variance = math.expm1(min(log_moments[1] - 2 * log_moments[0], 700.0))
    return trust * shares + (1 - trust) * usual, variance


def allocate(shares: Float[np.ndarray, " proposals"], particles: int) -> Integer[np.ndarray, " proposals"]:
    """Distribute particles in proportion to the shares.

    Args:
        shares: fractions, summing to 1; the first proposal gets at least one particle if it has a share.
        particles: total number of particles.

    Returns:
        counts that sum to ``particles``.
    """
    counts = np.floor(shares * particles + 0.5).astype(np.intp)
    counts[0] = max(counts[0], int(shares[0] > 0))
    counts[np.argmax(counts)] += particles - counts.sum()
    return counts
