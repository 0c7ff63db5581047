r"""The posterior of classes 0 … C-1, the label being the class with the largest of C independent functions.

Particles are whitened differences g, :mod:`nngp_prior.probability.multiclass`. With K = L Lᵀ, the functions relative to
their mean over classes, over √2, are at any input, given the particles,

.. math:: h_* | ε ~ L_* H + \sqrt{v_*/2}\, (ξ - \bar ξ), \qquad H_j^c = \overline{F_{y_j}} ε_j - F_{y_j}^c ε_j, \quad
    F_z^c ε = \text{difference of class z to class c}

with ξ_c independent N(0, 1): differences to one class follow from those to another. So class c has the probability

.. math:: P(c | ε) = \int φ(x - s_c) \prod_{k ≠ c} Φ(x - s_k) \, dx, \qquad s = L_* H / \sqrt{v_*/2} ,

by the trapezoidal rule, which converges exponentially: exact to 1e-6 at steps of 0.65 up to 10
classes, and at steps of ½ up to 100.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float, Real
from numpy.typing import ArrayLike
from scipy.special import ndtr
from typing_extensions import override

from nngp_prior.numerics.random import generator, systematic
from nngp_prior.numerics.threads import on_all_cores
from nngp_prior.prior.conditioned import Conditioned, checked_count
from nngp_prior.prior.weighted_particles import unseen
from nngp_prior.probability.common_random_numbers import ratios_of_means
from nngp_prior.probability.factored_kernel import FactoredKernel
from nngp_prior.probability.multiclass import differences, relative_functions
from nngp_prior.schemas.results.class_predictive import ClassPredictive
from nngp_prior.schemas.results.posterior import GibbsError, VoteError
from nngp_prior.schemas.seeds import SeedLike, checked_seed
from nngp_prior.schemas.specs.estimator import classes_of

_LOWEST, _HIGHEST = -5.2, 8.0  # nodes relative to the largest score: outside is the maximum with probability 1e-7
_STEP, _STEP_OF_MANY, _MANY = 0.65, 0.5, 10
_ENTRIES = 2**19  # numbers of a block's scores

_Result = TypeVar("_Result")


class ClassPosterior(Conditioned):
    """f | S, the prior given training labels 0 … C-1; created by :func:`nngp_prior.posterior` with ``classes``."""

    @property
    def classes(self) -> int:
        """Number of classes C."""
        return classes_of(self._parameters) or 2

    @override
    def _orthant(
        self, kernel: FactoredKernel, labels: Real[np.ndarray, " m"]
    ) -> tuple[FactoredKernel, Float[np.ndarray, " constraints"]]:
        orthant = differences(kernel, labels.astype(np.int64), self.classes)
        return orthant, np.ones(orthant.m)

    @functools.cached_property
    def _functions(self) -> Float[np.ndarray, "rank classes count"]:
        """H: whitened functions of each particle relative to their mean over classes."""
        given, others = self._kept_labels[: self._rank].astype(np.int64), self.classes - 1
        epsilon = self._particles.epsilon.reshape(self._rank, others, -1)
        H = np.empty((self._rank, self.classes, epsilon.shape[2]))
        for z in np.unique(given):
            those = given == z
            H[those] = relative_functions(int(z), self.classes) @ epsilon[those]
        H -= H.mean(axis=1, keepdims=True)
        return H

    def predictive(self) -> ClassPredictive:
        """Compute predictive probabilities of the test inputs.

        Returns:
            P(class | S) per input and class, with standard errors.
        """
        return self._predictive

    @functools.cached_property
    def _predictive(self) -> ClassPredictive:
        _, rows, deviations = self._rows(slice(None))
        return self._predict(rows, deviations, self._certain())

    def predictive_at(self, cross: ArrayLike, variances: ArrayLike) -> ClassPredictive:
        """Compute predictive probabilities at inputs that are not in K.

        Those of an input depend only on its own covariances, not on the other inputs.

        Args:
            cross: (t, m) covariances with the training inputs.
            variances: (t,) prior variances, without noise.

        Returns:
            P(class | S) per input and class, with standard errors.

        Raises:
            InvalidInput: if the shapes do not match, values are not finite, or variances are not positive.
        """
        return self._predict(*self._conditional(cross, variances))

    def _predict(
        self, rows: Float[np.ndarray, "t rank"], deviations: Float[np.ndarray, " t"], certain: Bool[np.ndarray, " t"]
    ) -> ClassPredictive:
        weights = self._particles.weights
        count, replicates = len(rows), len(weights)
        mass = np.empty((count, self.classes, replicates))
        missed = np.empty((count, self.classes))

        def predict(some: slice) -> None:
            p = self._probabilities(rows[some], deviations[some]).reshape(-1, self.classes, *weights.shape)
            mass[some] = np.einsum("icrp,rp->icr", p, weights)
            likely = mass[some].sum(axis=-1) > weights.sum() / 2
            missed[some] = unseen(weights, np.where(likely[..., None, None], 1 - p, p))

        self._on_blocks(predict, count)
        total = weights.sum(axis=1)
        value, stderr = ratios_of_means(mass, total)
        first, second = np.argsort(-value, axis=1, kind="stable")[:, :2].T
        at = np.arange(count)
        _, margin = ratios_of_means(mass[at, first] - mass[at, second], total)
        missed[certain] = 0.0
        return ClassPredictive(
            np.clip(value, 0.0, 1.0),
            np.hypot(stderr, missed),
            np.hypot(margin, missed[at, first] + missed[at, second]),
            replicates - 1,
        )

    def gibbs_error(self, y: ArrayLike) -> GibbsError:
        """Compute the expected error at the test inputs of a function drawn from the posterior.

        Args:
            y: (t,) classes of the test inputs.

        Returns:
            the mean over test inputs of P(another class | S), and its standard error.
        """
        given, weights = self._test_labels(y).astype(np.int64), self._particles.weights
        _, rows, deviations = self._rows(slice(None))

        def wrong(some: slice) -> Float[np.ndarray, " count"]:
            p = self._probabilities(rows[some], deviations[some])
            return (1 - p[np.arange(len(p)), given[some]]).sum(axis=0)

        each = (np.sum(self._on_blocks(wrong, self.test), axis=0) / self.test).reshape(weights.shape)
        value, stderr = ratios_of_means(np.sum(weights * each, axis=1), weights.sum(axis=1))
        missed = 0.0 if self._certain().all() else float(unseen(weights, each if value < 0.5 else 1 - each))
        return GibbsError(float(value), math.hypot(float(stderr), missed), len(weights) - 1)

    def vote_error(self, y: ArrayLike) -> VoteError:
        """Compute the error at the test inputs of the vote, the class with the largest predictive probability.

        Args:
            y: (t,) classes of the test inputs.

        Returns:
            the fraction of test inputs whose vote is wrong, and its possible change by uncertain votes.
        """
        given, predictive = self._test_labels(y), self.predictive()
        wrong, uncertain = predictive.votes != given, predictive.uncertain()
        return VoteError.of(wrong, uncertain)

    def samples(self, count: int, seed: SeedLike = 0) -> Float[np.ndarray, "{count} n classes"]:
        """Draw functions from the posterior, at training and test inputs.

        Labels say nothing about the mean over classes, which is drawn from its prior N(0, K/C); the rest is drawn as
        for two classes, :meth:`nngp_prior.Posterior.samples`.

        Args:
            count: number of draws.
            seed: random seed of the draw.

        Returns:
            outputs of the C functions in the units of √K, in the order of K; with noise or jitter, noisy outputs. The
            largest at a training input is that of its class.

        Raises:
            InvalidInput: if ``count`` is not a positive integer.
        """
        count = checked_count(count)
        kernel, rng, C = self._kernel, generator(checked_seed(seed), "posterior samples"), self.classes
        chosen = self._functions[:, :, systematic(self._particles.weights.ravel(), count, rng)]
        rest = rng.standard_normal((kernel.rank - self._rank, C, count)) * math.sqrt(0.5)
        rest -= rest.mean(axis=1, keepdims=True)
        common = rng.standard_normal((kernel.rank, 1, count)) / math.sqrt(C)
        whitened = math.sqrt(2) * np.concatenate([chosen, rest]) + common
        f = np.tensordot(self._factor(), whitened, axes=1)  # unit prior variance, for the inputs kept
        return np.moveaxis(f[kernel.group] * self._deviations()[:, None, None], 2, 0)

    def _on_blocks(self, work: Callable[[slice], _Result], count: int) -> list[_Result]:
        """Return results for blocks of inputs, computed on all cores; the same for any number of cores."""
        size = max(1, _ENTRIES // (self.classes * self._particles.weights.size))
        blocks = [slice(start, min(start + size, count)) for start in range(0, count, size)]
        _ = self._functions  # computed once, not by each thread
        return [result for _, result in sorted(on_all_cores(work, blocks), key=lambda pair: pair[0])]

    def _probabilities(
        self, rows: Float[np.ndarray, "some rank"], deviations: Float[np.ndarray, " some"]
    ) -> Float[np.ndarray, "some classes count"]:
        """Return P(class | particle) at some inputs: 0 or 1 if the particle determines their functions."""
        scores = np.tensordot(rows, self._functions, axes=1)
        return class_probabilities(scores, deviations * math.sqrt(0.5))


def class_probabilities(
    scores: Float[np.ndarray, "inputs classes count"], deviations: Float[np.ndarray, " inputs"]
) -> Float[np.ndarray, "inputs classes count"]:
    """Return the probability that each of C independent Gaussians of equal variance is the largest.

    Args:
        scores: their means, for several inputs and particles; overwritten.
        deviations: their standard deviation at each input, 0 if it is the means that decide.

    Returns:
        probabilities, summing to 1 over classes.
    """
    scores -= scores.max(axis=1, keepdims=True)
    sharp = deviations <= 0
    scores /= np.where(sharp, 1.0, deviations)[:, None, None]
    p = np.zeros_like(scores)
    for x in np.arange(_LOWEST, _HIGHEST, _STEP if scores.shape[1] <= _MANY else _STEP_OF_MANY):
        u = x - scores
        below = ndtr(u)
        density = np.exp(-0.5 * np.square(u, out=u), out=u)
        density *= _products_of_others(below)
        p += density
    p[sharp] = scores[sharp] == 0
    p /= p.sum(axis=1, keepdims=True)
    return p


def _products_of_others(x: Float[np.ndarray, "inputs classes count"]) -> Float[np.ndarray, "inputs classes count"]:
    """Return, per class, the product over all other classes."""
    result = np.ones_like(x)
    np.cumprod(x[:, :-1], axis=1, out=result[:, 1:])
    after = np.ones_like(x[:, 0])
    for c in range(x.shape[1] - 1, -1, -1):
        result[:, c] *= after
        after *= x[:, c]
    return result
