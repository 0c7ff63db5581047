r"""Gaussian proposals for the orthant, and the mixture of them that particles are drawn from.

A proposal visits g_1, g_2, … in turn. Its Gaussian q(g) ∝ N(g; 0, K') Π_i exp(-½ s_i g_i² + ν_i g_i) gives g_i, given
the past, a mean m and a variance v (from the Cholesky factor of its covariance: v = L_ii²), which hold the sites'
messages from the future. Its own site is taken out and the exact constraint put in:

.. math:: d = 1 - s_i v, \quad v' = v/d, \quad m' = (m - ν_i v)/d, \quad g_i ~ N(m', v') \text{ given } g_i > 0 .

Four sets of sites are used: none (the untwisted proposal of Geweke, Hajivassiliou and Keane, whose weights are at
most 1), EP's, and EP's widened twice. Widening keeps the mean μ and multiplies the sites' precision by β: (s, ν) → (β
s, ν - (1 - β) s μ), since (K'⁻¹ + β S) μ = ν - (1 - β) S μ. It gives the tails that EP's Gaussian lacks along the
leading directions, where the true posterior has the prior's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer
from scipy.special import logsumexp

from nngp_prior.probability.ep import EPResult
from nngp_prior.probability.prepared import PreparedKernel

WIDENINGS = (0.5, 0.2)
DEFENSIVE_SHARE = 1 / 16
# What the pilot's shares are shrunk towards where its weights say little; simple and hard labellings live with them.
_PRIOR_SHARES = np.array([DEFENSIVE_SHARE, 0.7, 0.2, 1 - DEFENSIVE_SHARE - 0.9])
_PRIOR_EFFECTIVE_SAMPLES = 50
# Below this conditional variance float32 rounding of the means would be felt in the weights.
_FLOAT32_VARIANCE = 1e-6


@dataclass(frozen=True)
class Proposal:
    """One Gaussian proposal, for the first ``rank`` coordinates (they determine the others).

    The numbers are taken as exact, whatever their rounding: any would do, since weights divide by the density that
    they give.

    Attributes:
        L: factor of the covariance.
        mean: of the Gaussian.
        precision: s of the own sites.
        shift: ν of the own sites.
    """

    L: Float[np.ndarray, "rank rank"]
    mean: Float[np.ndarray, " rank"]
    precision: Float[np.ndarray, " rank"]
    shift: Float[np.ndarray, " rank"]


def build_proposals(kernel: PreparedKernel, labels: Float[np.ndarray, " m"], ep: EPResult) -> list[Proposal]:
    """The untwisted proposal, EP's, and the widened ones.

    Args:
        kernel: a prepared kernel.
        labels: ±1 for the inputs kept.
        ep: sites, factor and mean of EP.

    Returns:
        the proposals; the first is in float64 and exactly the prior (weights need its density), the others in float32
        where the kernel is conditioned well enough.
    """
    rank = kernel.rank
    dtype = np.float32 if kernel.smallest_conditional_variance > _FLOAT32_VARIANCE else np.float64
    s, nu, mean = ep.sites.precision, ep.sites.shift, ep.mean

    def proposal(L: np.ndarray, precision: np.ndarray, shift: np.ndarray) -> Proposal:
        # Row-major: the loop over particles reads rows of L.
        return Proposal(np.ascontiguousarray(L[:rank], dtype=dtype), mean[:rank], precision[:rank], shift[:rank])

    proposals = [proposal(ep.L, s, nu)]
    for beta in WIDENINGS:
        L, _ = kernel.signed_posterior_factor(labels, beta * s)
        proposals.append(proposal(L, beta * s, nu - (1 - beta) * s * mean))
        del L
    zeros = np.zeros(rank)
    return [Proposal(kernel.signed_factor(labels, slice(rank)), zeros, zeros, zeros), *proposals]


def optimal_shares(
    log_target: Float[np.ndarray, " particles"],
    log_proposal: Float[np.ndarray, "proposals particles"],
    floor: float,
) -> Float[np.ndarray, " proposals"]:
    r"""Shares α of a mixture that minimise the variance of its weights, from a pilot drawn with equal shares.

    The second moment ∫ γ²/Σ_j α_j π_j is convex in α (He & Owen 2014). Its stationarity condition,
    E[w² π_j/Σ α π] equal for all j with α_j > 0, is iterated as a multiplicative update.

    Args:
        log_target: log γ of the pilot's trajectories.
        log_proposal: log π_j of the same.
        floor: least share of the first proposal, which bounds the weights.

    Returns:
        the shares, shrunk towards fixed ones where the pilot's weights are too uneven to tell.
    """
    count = len(log_proposal)
    log_drawn = logsumexp(log_proposal, axis=0) - np.log(count)
    if np.all(np.isneginf(log_target)):
        return _PRIOR_SHARES
    shares = np.full(count, 1 / count)
    smallest = np.array([floor] + [1e-12] * (count - 1))  # a share of 0 would never come back
    importance = np.zeros(0)
    for _ in range(100):
        log_mixture = logsumexp(log_proposal + np.log(shares)[:, None], axis=0)
        log_second_moment = 2 * log_target - log_mixture - log_drawn
        importance = np.exp(log_second_moment - log_second_moment.max())
        importance /= importance.sum()
        responsibility = np.exp(log_proposal - log_mixture) @ importance
        shares = shares * np.sqrt(responsibility)
        shares = np.maximum(shares / shares.sum(), smallest)
        shares /= shares.sum()
    effective = 1 / float(np.sum(importance**2))
    trust = effective / (effective + _PRIOR_EFFECTIVE_SAMPLES)
    return trust * shares + (1 - trust) * _PRIOR_SHARES


def allocate(shares: Float[np.ndarray, " proposals"], particles: int) -> Integer[np.ndarray, " proposals"]:
    """Whole numbers of particles in proportion to the shares.

    Args:
        shares: parts, summing to 1; the first proposal gets at least one particle if it has a share.
        particles: to be distributed.

    Returns:
        counts that sum to ``particles``.
    """
    counts = np.floor(shares * particles + 0.5).astype(np.intp)
    counts[0] = max(counts[0], int(shares[0] > 0))
    counts[np.argmax(counts)] += particles - counts.sum()
    return counts
