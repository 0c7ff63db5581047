"""Weighted particles of f | S, and their predictions at other inputs; see :mod:`nngp_prior.prior.posterior`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import psutil
from jaxtyping import Bool, Float
from scipy.special import ndtr

from nngp_prior.errors import ResourceLimit
from nngp_prior.probability.common_random_numbers import LabellingRun, ratios_of_means
from nngp_prior.schemas.results.posterior import GibbsError, Predictive
from nngp_prior.schemas.specs.estimator import SMC, classes_of

_ROWS = 256  # inputs per block of predictions
_FEW = 20  # number of contributing particles below which the jackknife's standard error is unreliable

_Standardised = Callable[[slice], Float[np.ndarray, "some replicates particles"]]


@dataclass(frozen=True, eq=False)
class WeightedParticles:
    """Weighted sample of ε given the training labels.

    Attributes:
        epsilon: the particles, replicate by replicate.
        weights: their weights, the largest being 1.
    """

    epsilon: Float[np.ndarray, "rank count"]
    weights: Float[np.ndarray, "replicates particles"]

    @classmethod
    def of(cls, run: LabellingRun) -> WeightedParticles:
        """Return the particles that a run has kept.

        Args:
            run: replicates with particles.

        Returns:
            particles and weights.
        """
        assert run.epsilon is not None
        weights = np.exp(run.log_weights - run.log_weights.max())
        return cls(run.epsilon.reshape(len(run.epsilon), -1), weights)

    def standardised(
        self, rows: Float[np.ndarray, "some rank"], deviations: Float[np.ndarray, " some"]
    ) -> Float[np.ndarray, "some replicates particles"]:
        """Return mean over √v of inputs given each particle: Φ(y z) is P(y).

        Args:
            rows: rows of L_*.
            deviations: √v of each input.

        Returns:
            z = (L_* ε)/√v per particle, ±∞ if v is 0.
        """
        mean, deviation = rows @ self.epsilon, deviations[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.where(deviation > 0, mean / deviation, np.where(mean > 0, np.inf, -np.inf))
        return z.reshape(len(rows), *self.weights.shape)

    def predictive(self, count: int, standardised: _Standardised, certain: Bool[np.ndarray, " count"]) -> Predictive:
        """Compute probabilities of the label +1.

        Args:
            count: number of inputs.
            standardised: :meth:`standardised` of a block of the inputs.
            certain: mask of the inputs whose labels training inputs determine.

        Returns:
            P(label +1 | S) per input, with standard errors.
        """
        weights = self.weights
        positive, missed = np.empty((count, len(weights))), np.empty(count)
        for some in _blocks(count):
            z = standardised(some)
            positive[some] = np.einsum("irp,rp->ir", ndtr(z), weights)
            likely = positive[some].sum(axis=1) > weights.sum() / 2
            missed[some] = unseen(weights, ndtr(np.where(likely, -1.0, 1.0)[:, None, None] * z))
        value, stderr = ratios_of_means(positive, weights.sum(axis=1))
        stderr = np.hypot(stderr, np.where(certain, 0.0, missed))
        return Predictive(np.clip(value, 0.0, 1.0), stderr, len(weights) - 1)

    def gibbs_error(self, y: Float[np.ndarray, " t"], standardised: _Standardised, certain: bool) -> GibbsError:
        """Compute the expected error of a function drawn from the posterior.

        Args:
            y: labels of t inputs.
            standardised: :meth:`standardised` of a block of the inputs.
            certain: True if training inputs determine all of the labels.

        Returns:
            the mean over the inputs of P(another label | S), and its standard error.
        """
        weights = self.weights
        wrong = np.zeros(weights.shape)
        for some in _blocks(len(y)):
            wrong += ndtr(-y[some][:, None, None] * standardised(some)).sum(axis=0) / len(y)
        value, stderr = ratios_of_means(np.sum(weights * wrong, axis=1), weights.sum(axis=1))
        missed = 0.0 if certain else float(unseen(weights, wrong if value < 0.5 else 1 - wrong))
        return GibbsError(float(value), math.hypot(stderr, missed), len(weights) - 1)


def unseen(
    weights: Float[np.ndarray, "replicates particles"], rare: Float[np.ndarray, "*some replicates particles"]
) -> Float[np.ndarray, "*some"]:
    r"""Return the standard error of a small probability that the spread of replicates misses.

    The jackknife reflects only events that occurred among the particles. Of N effective particles none shows an event
    of probability 1/N in a third of all runs, and a probability to which only N_h = (Σ w h)²/Σ (w h)² particles
    contribute is as uncertain as a count of N_h. So 1/N is added if N_h is small.

    Args:
        weights: weights of the particles.
        rare: h, the event's probability given each particle.

    Returns:
        exp(-N_h/20)/N.
    """
    parts = weights * rare
    total, squares = np.asarray(parts.sum(axis=(-2, -1))), np.square(parts).sum(axis=(-2, -1))
    contributing = np.divide(total**2, squares, out=np.zeros_like(total), where=squares > 0)
    return np.asarray(np.exp(-contributing / _FEW) * np.square(weights).sum() / weights.sum() ** 2)


def _blocks(count: int) -> list[slice]:
    """Return blocks of inputs that are processed at a time."""
    return [slice(start, min(start + _ROWS, count)) for start in range(0, count, _ROWS)]


def bytes_beside(train: int, parameters: SMC) -> int:
    """Return peak memory in addition to an estimate of n labels: a second factor, and the particles at all inputs.

    Args:
        train: number of training inputs.
        parameters: specification of the estimator.

    Returns:
        bytes.
    """
    particles, classes = parameters.fewest_particles * parameters.replicates, classes_of(parameters) or 2
    if classes > 2:  # the particles twice, as differences and as functions; blocks of probabilities
        rank = train * (classes - 1)
        return 8 * (rank * rank + train * (2 * classes - 1) * particles + 8 * max(2**20, classes * particles))
    return 8 * (train * train + 2 * train * particles + 3 * _ROWS * particles)


def require_room(train: int, n: int, parameters: SMC) -> None:
    """Refuse a posterior that does not fit, before the computation starts.

    Args:
        train: number of training inputs.
        n: number of training and test inputs.
        parameters: specification of the estimator.

    Raises:
        ResourceLimit: if it does not fit; the message gives the required memory.
    """
    particles, needed = parameters.fewest_particles * parameters.replicates, bytes_beside(train, parameters)
    free = psutil.virtual_memory().available
    if needed > free:
        raise ResourceLimit(
            f"n: a posterior of {train:,} training and {n - train:,} test inputs with {particles:,} particles takes "
            f"{needed / 2**30:.1f} GiB beside its estimate and {free / 2**30:.1f} GiB are free. Use fewer inputs or "
            "particles."
        )
