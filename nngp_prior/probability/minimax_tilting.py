r"""Minimax tilting (Botev, J. R. Statist. Soc. B 79, 2017): an estimate of log P and a certain upper bound.

With K' = L Lᵀ, D = diag(1/L_ii) L - I and x ~ N(0, I) whitened, coordinate i is positive if x_i > -(D x)_i. Drawing x_i
from N(μ_i, 1) above that gives a trajectory the log weight

.. math:: ψ(x, μ) = \sum_i ½ μ_i^2 - μ_i x_i + \log \barΦ(w_i), \qquad w = -D x - μ ,

\bar Φ = 1 - Φ, so that log P ≤ max_x ψ(x, μ) for any μ; ψ is concave in x and convex in μ, and the bound is least at
the saddle point. There x = μ + h and μ = Dᵀ h with h = φ(w)/\barΦ(w), hence w = -(M - I) h with M = (I + D)(I + D)ᵀ,
whose entries are K'_ij / (L_ii L_jj). Half of the unknowns are eliminated, and what is left is the minimum of a
strictly convex function of h,

.. math:: F = ½ h^T (M - I) h + \sum_i w_i h_i + \log \barΦ(w_i), \qquad h_i = φ(w_i)/\barΦ(w_i) ,

whose value there is ψ's. So F is an upper bound on log P at any w, whether or not Newton's method has converged. Its
matrix in h is M + diag(1/h' - 1), h' = h (h - w) < 1. The tilt is a Gaussian proposal with the prior's covariance and
sites of precision 0 and ν_i = h_i/L_ii, as :mod:`nngp_prior.probability.proposals` has them.
"""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_factor, cho_solve
from scipy.special import log_ndtr

from nngp_prior.numerics.gaussian import half_line_moments_array
from nngp_prior.probability.factored_kernel import FactoredKernel
from nngp_prior.probability.particles import make_mixture
from nngp_prior.probability.proposals import Proposal, untwisted
from nngp_prior.probability.registry import ESTIMATORS
from nngp_prior.probability.replicates import importance_sampling
from nngp_prior.progress import Progress, ProgressCallback
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.specs.estimator import MinimaxTilting

_MOST_STEPS = 50
_HALVINGS = 40
_DECREASE = 1e-9  # predicted decrease of F below which Newton's method ends, nats
_ROUNDING = 1e-12  # of F, relative to its terms


class SaddlePoint(NamedTuple):
    """Minimum of F.

    Attributes:
        shift: ν of the tilt, with the labels' signs.
        upper_bound: F with an allowance for rounding: log P is at most this.
        steps: number of Newton steps.
    """

    shift: Float[np.ndarray, " rank"]
    upper_bound: float
    steps: int


def saddle_point(kernel: FactoredKernel, labels: Float[np.ndarray, " m"], progress: ProgressCallback) -> SaddlePoint:
    """Minimise F by Newton's method, each step one factorisation.

    Args:
        kernel: a factored kernel; of a singular one the constraints that determine the others are used, which bounds P
            from above too.
        labels: ±1 for the inputs kept, in the order of visits.
        progress: progress callback.

    Returns:
        the minimum.
    """
    rank = kernel.rank
    deviation = np.abs(kernel.algebra.diagonal(kernel.L)[:rank]).astype(np.float64)
    M = np.tril(kernel.signed_correlation(labels)[:rank, :rank], -1)
    M += M.T
    M[np.diag_indices(rank)] = 1.0
    M /= np.multiply.outer(deviation, deviation)
    w = np.zeros(rank)
    h, slope, rest, value = _objective(M, w)
    steps = 0
    while steps < _MOST_STEPS:
        gradient = M @ h - h + w
        A = M.copy(order="F")
        A[np.diag_indices(rank)] += rest / slope
        step = -cho_solve(cho_factor(A, lower=True, overwrite_a=True, check_finite=False), gradient) / slope
        predicted = -float(gradient @ (slope * step))
        steps += 1
        progress(Progress("Newton steps", steps, steps + (predicted > _DECREASE)))
        size = 1.0
        for _ in range(_HALVINGS):
            tried = _objective(M, w + size * step)
            if tried[3] <= value - 1e-4 * size * predicted:
                break
            size /= 2
        else:
            break
        w = w + size * step
        h, slope, rest, value = tried
        if predicted < _DECREASE:
            break
    terms = float(h @ np.abs(M @ h) + np.abs(w) @ h + np.abs(log_ndtr(-w)).sum())
    return SaddlePoint(h / deviation, min(value + _ROUNDING * terms, 0.0), steps)


def _objective(M: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return h, h', 1 - h' and F at w."""
    h, slope, rest, _ = half_line_moments_array(-w)
    value = 0.5 * (h @ (M @ h) - h @ h) + w @ h + log_ndtr(-w).sum()
    return h, np.maximum(slope, 1e-300), rest, float(value) if math.isfinite(value) else math.inf


def tilted(kernel: FactoredKernel, labels: Float[np.ndarray, " m"], shift: Float[np.ndarray, " rank"]) -> Proposal:
    """Return the tilt as a proposal: the prior with another mean.

    Args:
        kernel: a factored kernel.
        labels: ±1 for the inputs kept, in the order of visits.
        shift: ν, from :func:`saddle_point`.

    Returns:
        the proposal.
    """
    rank = kernel.rank
    prior = untwisted(kernel)
    y = labels[:rank]
    mean = y * kernel.algebra.covariance_vector(prior.L, y * shift)
    return Proposal(prior.L, mean, np.zeros(rank), shift, kernel.algebra)


@ESTIMATORS.register(MinimaxTilting)
def estimate_minimax_tilting(
    kernel: FactoredKernel, labels: np.ndarray, parameters: MinimaxTilting, seed: int, progress: ProgressCallback
) -> Estimate:
    """Return the mean weight under the tilt with its spread over replicates, and the upper bound.

    Returns:
        the estimate.
    """
    began = time.perf_counter()
    found = saddle_point(kernel, labels, progress)
    proposals = [untwisted(kernel), tilted(kernel, labels, found.shift)]
    mixture = make_mixture(kernel, labels, proposals, np.array([0, parameters.particles]))
    diagnostics = {"upper_bound": found.upper_bound, "newton_steps": found.steps}
    return importance_sampling(
        kernel, mixture, parameters, seed, progress, began, upper=found.upper_bound, diagnostics=diagnostics
    )
