r"""Estimates of nested labellings with common random numbers: P(T | S) = P(S ∪ T)/P(S).

Both probabilities are estimated as :mod:`nngp_prior.probability.smc` does, each with the sites that EP finds for its
own labels, and with the inputs of S visited first. Replicate r of either labelling draws from the same scrambled Sobol
points, in the same shares of the mixture: a trajectory that meets S by chance does so in both, and that part of the
error cancels in the ratio. Its standard error is the jackknife's over the pairs,

.. math:: θ_{(r)} = \log \sum_{q \ne r} Ẑ_q^{S ∪ T} - \log \sum_{q \ne r} Ẑ_q^S, \qquad
    \text{s.e.}^2 = \frac{R - 1}{R} \sum_r (θ_{(r)} - \bar θ)^2 .
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Real
from scipy.special import logsumexp

from nngp_prior.errors import InvalidLabels
from nngp_prior.numerics.random import generator
from nngp_prior.probability.ep import Sites
from nngp_prior.probability.factored_kernel import FactoredKernel
from nngp_prior.probability.particles import make_mixture
from nngp_prior.probability.plan import plan
from nngp_prior.probability.proposals import allocate
from nngp_prior.probability.replicates import judge, run_in_threads
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.results.estimate import Estimate, Replicates, Status
from nngp_prior.schemas.specs.estimator import SMC
from nngp_prior.schemas.statistics import jackknife


@dataclass(frozen=True)
class LabellingRun:
    """Replicates for one labelling.

    Attributes:
        log_estimates: log Ẑ_r, unbiased for P, nats.
        log_weights: log weight of each particle; a replicate's estimate is the mean of its weights.
        epsilon: the particles if kept, else None: f = L ε.
        shares: shares of the mixture.
        status: status of the error bar, judged by the weights.
        message: suggested remedy.
        diagnostics: diagnostics of EP and of the weights.
    """

    log_estimates: Float[np.ndarray, " replicates"]
    log_weights: Float[np.ndarray, "replicates particles"]
    epsilon: Float[np.ndarray, "rank replicates particles"] | None
    shares: Float[np.ndarray, " proposals"]
    status: Status
    message: str
    diagnostics: dict[str, Any]

    @property
    def evidence(self) -> Replicates:
        """The replicates' estimates of P."""
        return Replicates(log_estimates=tuple(self.log_estimates.tolist()))

    def estimate(self, kernel: FactoredKernel, seconds: float) -> Estimate:
        """Return the estimate of log P, as :func:`nngp_prior.log_probability` does.

        Args:
            kernel: kernel of the run.
            seconds: time the run took.

        Returns:
            the estimate, with error bar and bound.
        """
        evidence = self.evidence
        return Estimate(
            value=evidence.value(),
            stderr=evidence.stderr(),
            n=kernel.n,
            method="smc",
            status=self.status,
            message="; ".join(part for part in (self.message, kernel.note()) if part),
            diagnostics=self.diagnostics,
            seconds=seconds,
            evidence=evidence,
            diagonal_shift=kernel.diagonal_shift,
        )


def labels_kept(kernel: FactoredKernel, labels: Real[np.ndarray, " n"]) -> Real[np.ndarray, " m"]:
    """Return the labels of the inputs kept, for a possible labelling.

    Args:
        kernel: a factored kernel.
        labels: ±1, or classes, for all inputs.

    Returns:
        labels of the inputs kept, in the order of visits.

    Raises:
        InvalidLabels: if tied inputs have contradictory labels.
    """
    y = kernel.reduce(labels)
    if y is None:
        first, second = kernel.contradiction(labels)
        problem = f"inputs {first} and {second} have correlation ±1 to rounding, and contradictory labels: P(S) = 0"
        raise InvalidLabels("y", problem, "Leave one of them out, or pass noise_variance.")
    return y


def seed_of(labels: Real[np.ndarray, " n"], seed: int) -> int:
    """Derive the seed of runs that share random numbers from the user's seed and the labels."""
    content = labels.astype(np.int8 if labels.max() < 128 else np.int64)
    return int(generator(seed, content.tobytes()).integers(2**63))


def run_labelling(
    kernel: FactoredKernel,
    labels: Float[np.ndarray, " m"],
    parameters: SMC,
    seed: int,
    dimensions: int,
    progress: ProgressCallback,
    shares: Float[np.ndarray, " proposals"] | None = None,
    keep: bool = False,
    start: Sites | None = None,
) -> LabellingRun:
    """Run EP, a pilot if no shares are given, and the replicates of ``parameters``.

    Args:
        kernel: a factored kernel.
        labels: ±1 for the inputs kept, in the order of visits.
        parameters: specification of the estimator, without a target standard error.
        seed: random seed; runs with the same seed, shares and dimensions have the same random numbers.
        dimensions: dimension of the Sobol points; at least the rank of all kernels that share random numbers.
        progress: progress callback.
        shares: shares of the mixture; default: from a pilot.
        keep: True to keep the particles.
        start: initial sites for EP.

    Returns:
        the replicates.
    """
    # Runs that share random numbers need the same number of particles, so that no pilot changes it.
    parameters = parameters.model_copy(update={"particles": parameters.fewest_particles})
    planned = plan(kernel, labels, parameters, seed, progress, start=start, shares=shares)
    shares = planned.shares
    mixture = make_mixture(kernel, labels, planned.proposals, allocate(shares, planned.particles))
    replicates = range(parameters.replicates)
    outcomes = run_in_threads(
        mixture, replicates, seed, "replicate", progress, planned.compiled, dimensions=dimensions, keep=keep
    )
    status, message, weights = judge(outcomes)
    kept = [outcome.epsilon for outcome in outcomes if outcome.epsilon is not None]
    return LabellingRun(
        np.concatenate([outcome.log_estimates for outcome in outcomes]),
        np.concatenate([outcome.log_weights for outcome in outcomes]),
        np.concatenate(kept, axis=1) if kept else None,
        shares,
        status,
        message,
        {**planned.diagnostics, **weights, "shares": [float(f"{share:.3g}") for share in shares]},
    )


def log_ratio(
    numerator: Float[np.ndarray, " replicates"], denominator: Float[np.ndarray, " replicates"]
) -> tuple[float, float]:
    """Return the log of the ratio of two means over the same replicates.

    Args:
        numerator: logarithms of estimates, at least one finite.
        denominator: likewise.

    Returns:
        the logarithm, nats, and its jackknife standard error; infinite if a single replicate dominates.
    """
    value = float(logsumexp(numerator) - logsumexp(denominator))
    logs = _logs_left_out(numerator) - _logs_left_out(denominator)
    if not np.all(np.isfinite(logs)):
        return value, math.inf
    return value, float(jackknife(logs))


def _logs_left_out(log_z: np.ndarray) -> np.ndarray:
    """Return log Σ_{q ≠ r} Ẑ_q, up to a constant."""
    z = np.exp(log_z - log_z.max())
    with np.errstate(divide="ignore"):
        return np.log(np.maximum(z.sum() - z, 0.0))


def ratios_of_means(
    numerator: Float[np.ndarray, "*shape replicates"], denominator: Float[np.ndarray, " replicates"]
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """Return ratios of means over the same replicates, with jackknife standard errors.

    Args:
        numerator: of any sign.
        denominator: not negative, at least one positive.

    Returns:
        ratios and standard errors; a standard error is infinite if a single replicate dominates.
    """
    total = denominator.sum()
    rest = total - denominator
    value = np.asarray(numerator.sum(axis=-1) / total)
    if rest.min() <= 0:
        return value, np.full(value.shape, math.inf)
    return value, jackknife((numerator.sum(axis=-1, keepdims=True) - numerator) / rest)
