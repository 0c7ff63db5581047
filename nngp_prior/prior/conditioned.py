"""The prior given training labels: what posteriors of two and of more classes share."""

from __future__ import annotations

import abc
import functools
import math
import time

import numpy as np
from jaxtyping import Float, Integer, Real
from numpy.typing import ArrayLike

from nngp_prior import progress as _progress
from nngp_prior.errors import InvalidInput, InvalidLabels
from nngp_prior.prior.weighted_particles import WeightedParticles, require_room
from nngp_prior.probability import memory_needed, prepare, seconds_needed
from nngp_prior.probability.checks import as_matrix
from nngp_prior.probability.common_random_numbers import LabellingRun, labels_kept, log_ratio, run_labelling, seed_of
from nngp_prior.probability.cost import constraints
from nngp_prior.probability.factored_kernel import FactoredKernel, blas_for, leading_part
from nngp_prior.probability.rounding import with_rounding
from nngp_prior.progress import Progress, ProgressCallback, ProgressOption
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.results.estimate import Approximate, Estimate, Exact
from nngp_prior.schemas.seeds import SeedLike, checked_seed
from nngp_prior.schemas.specs.estimator import SMC, classes_of
from nngp_prior.schemas.specs.labels import check_labels_for, label_array


class Conditioned(abc.ABC):
    """The prior given labels of the leading inputs, as weighted particles.

    Args:
        K: (n, n) covariances, training inputs first.
        y: (m,) labels of the training inputs.
        parameters: specification of the estimator.
        seed: random seed.
        progress: progress callback.

    Attributes:
        log_p: estimate of log P(S), nats, with error bar and rigorous lower bound.
        train: m.
        test: t = n - m.
        diagonal_shift: c if the prior is that of K + cI, else 0.
    """

    def __init__(self, K: ArrayLike, y: ArrayLike, parameters: SMC, seed: SeedLike, progress: ProgressCallback) -> None:
        began = time.perf_counter()
        seed = checked_seed(seed)
        matrix = as_matrix(K)
        given = label_array(y)
        if given.ndim != 1 or not 1 <= len(given) <= len(matrix):
            problem = f"has shape {given.shape} where K has {len(matrix)} inputs"
            raise InvalidLabels("y", problem, "Pass one label per training input, the first inputs of K.")
        self._parameters = parameters
        self._labels = check_labels_for(parameters, given, len(given))
        self.train, self.test = len(given), len(matrix) - len(given)
        require_room(self.train, len(matrix), parameters)
        self._kernel = prepare(matrix, parameters, self.train)
        self.diagonal_shift = self._kernel.diagonal_shift
        kernel = leading_part(self._kernel, self.train)
        labels = labels_kept(kernel, self._labels)
        signs = 2 * self._labels - 1 if classes_of(parameters) == 2 else self._labels
        self._seed = seed_of(signs, seed)
        with blas_for(constraints(kernel.n, parameters)):
            progress(self._expected(self.train))
            self._run = self._run_on(kernel, labels, progress, keep=True)
            self.log_p = self._run.estimate(kernel, time.perf_counter() - began)

            def estimate(other: FactoredKernel) -> Estimate:
                return self._run_on(other, self._labels[other.kept], progress).estimate(other, 0.0)

            self.log_p = with_rounding(self.log_p, kernel, estimate)
        self._rank = kernel.rank
        if not math.isfinite(self.log_p.value):
            raise InvalidLabels("y", self.log_p.message, "There is no posterior without them.")
        self._kept_labels = labels

    @functools.cached_property
    def _particles(self) -> WeightedParticles:
        return WeightedParticles.of(self._run)

    @abc.abstractmethod
    def _orthant(
        self, kernel: FactoredKernel, labels: Real[np.ndarray, " m"]
    ) -> tuple[FactoredKernel, Float[np.ndarray, " constraints"]]:
        """Return the orthant of labels of the inputs kept: its kernel and its signs."""

    def _run_on(
        self,
        kernel: FactoredKernel,
        labels: Real[np.ndarray, " m"],
        progress: ProgressCallback,
        keep: bool = False,
        shares: Float[np.ndarray, " proposals"] | None = None,
    ) -> LabellingRun:
        """Run a labelling of the inputs kept, with the random numbers that all runs share."""
        orthant, signs = self._orthant(kernel, labels)
        dimensions = constraints(self._kernel.n, self._parameters)
        return run_labelling(orthant, signs, self._parameters, self._seed, dimensions, progress, shares, keep)

    def _expected(self, n: int) -> Progress:
        """Return the cost of a run on n inputs; its random numbers are of the dimension of all."""
        cost = Cost(memory_needed(self._kernel.n, self._parameters), seconds_needed(n, self._parameters))
        return Progress("labellings", 0, 1, cost)

    def log_probability(self, y: ArrayLike, progress: ProgressOption = None) -> Estimate:
        """Estimate log P(f_test | S) = log P(S ∪ f_test) - log P(S) of one labelling of all test inputs.

        Both use the same random numbers (:mod:`nngp_prior.probability.common_random_numbers`).

        Args:
            y: (t,) labels of the test inputs.
            progress: True to show progress, or a callback, called with ``Progress`` events.

        Returns:
            the estimate, in nats; its ``n`` is t, and ``independent_stderr`` in its diagnostics the standard error of
            the difference of two runs with independent random numbers. It has no rigorous bound, as a difference of
            two bounds is not a bound. -inf with status ``impossible`` if tied inputs have contradictory labels.

        Raises:
            InvalidInput: if there are no test inputs, or the labels are invalid.
        """
        began = time.perf_counter()
        kernel, whole = self._kernel, np.concatenate([self._labels, self._test_labels(y)])
        kept = kernel.reduce(whole)
        if kept is None or kernel.m == int(np.sum(kernel.kept < self.train)):
            return self._exact(-math.inf if kept is None else 0.0, whole)
        threads = blas_for(constraints(kernel.n, self._parameters))
        with threads, _progress.shown(progress, "log P of test labels") as tell:
            tell(self._expected(kernel.n))
            run = self._run_on(kernel, kept, tell, shares=self._run.shares)
        hit = bool(np.isfinite(run.log_estimates).any()) and run.status != "numerical-failure"
        value, stderr = log_ratio(run.log_estimates, self._run.log_estimates) if hit else (-math.inf, math.inf)
        status = run.status if run.status != "ok" else self._run.status
        joint, train = run.evidence, self._run.evidence
        evidence = Approximate(log_p=value, standard_error=stderr, freedom=len(run.log_estimates) - 1)
        return Estimate(
            value=value,
            stderr=stderr,
            n=self.test,
            method="smc",
            status=status,
            message="; ".join(part for part in (run.message or self._run.message, kernel.note()) if part),
            diagnostics={
                **run.diagnostics,
                "log_p_joint": joint.value(),
                "log_p_train": train.value(),
                "independent_stderr": math.hypot(joint.stderr(), train.stderr()),
            },
            seconds=time.perf_counter() - began,
            evidence=evidence if hit else None,
            diagonal_shift=self.diagonal_shift,
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.train:,} training and {self.test:,} test inputs, {self.log_p}>"

    def _exact(self, value: float, labels: Real[np.ndarray, " n"]) -> Estimate:
        """Return an exact estimate, for labels determined by those of training inputs."""
        message = "the training inputs determine the labels of the test inputs"
        if value:
            first, second = self._kernel.contradiction(labels)
            message = (
                f"inputs {first} and {second} have correlation ±1 to rounding and cannot have the labels that they "
                "have: P = 0"
            )
        return Estimate(
            value=value,
            stderr=0.0,
            n=self.test,
            method="smc",
            status="impossible" if value else "ok",
            message=message,
            evidence=Exact(log_p=value),
            diagonal_shift=self.diagonal_shift,
        )

    def _test_labels(self, y: ArrayLike) -> Real[np.ndarray, " t"]:
        given = label_array(y)
        if self.test == 0:
            raise InvalidInput("y", "there are no test inputs", "Pass K of training and test inputs.")
        if given.shape != (self.test,):
            problem = f"has shape {given.shape} where there are {self.test} test inputs"
            raise InvalidLabels("y", problem, "Pass one label per test input, without those of the training inputs.")
        return check_labels_for(self._parameters, given, self.test)

    def _conditional(
        self, cross: ArrayLike, variances: ArrayLike
    ) -> tuple[Float[np.ndarray, "t rank"], Float[np.ndarray, " t"], np.ndarray]:
        """Return L_*, √v and the mask of tied inputs, for inputs that are not in K, after checks."""
        K_cross, K_own = np.asarray(cross, np.float64), np.asarray(variances, np.float64)
        if K_cross.ndim != 2 or K_cross.shape[1] != self.train or not np.isfinite(K_cross).all():
            problem = f"has shape {K_cross.shape}" if np.isfinite(K_cross).all() else "has values that are not finite"
            remedy = f"Pass covariances of t inputs with the {self.train} training inputs, (t, {self.train})."
            raise InvalidInput("cross", problem, remedy)
        if K_own.shape != K_cross.shape[:1] or not (np.isfinite(K_own) & (K_own + self.diagonal_shift > 0)).all():
            remedy = "Pass a positive number per row of cross."
            raise InvalidInput("variances", f"got shape {K_own.shape}, or a value that is no variance", remedy)
        kernel = leading_part(self._kernel, self.train) if self.test else self._kernel
        return kernel.conditional(K_cross, K_own)

    def _factor(self) -> Float[np.ndarray, "m rank"]:
        return self._kernel.algebra.to_host(self._kernel.L)

    def _rows(self, some: slice) -> tuple[Integer[np.ndarray, " some"], Float[np.ndarray, "some rank"], np.ndarray]:
        """Return the places of test inputs among the inputs kept, their rows of L_*, and √v."""
        places = self._kernel.group[self.train :][some]
        rows = self._factor()[places]
        return places, rows[:, : self._rank], np.sqrt(np.square(rows[:, self._rank :]).sum(axis=1))

    def _certain(self) -> np.ndarray:
        """Return a mask of the test inputs whose labels training inputs determine: those tied to one."""
        return self._kernel.kept[self._kernel.group[self.train :]] < self.train

    def _deviations(self) -> Float[np.ndarray, " n"]:
        """Return prior standard deviations of all inputs, noise included."""
        return np.sqrt(self._kernel.K.diagonal().astype(np.float64) + self._kernel.diagonal_shift)


def checked_count(count: int) -> int:
    """Validate a number of samples.

    Args:
        count: the number.

    Returns:
        the number.

    Raises:
        InvalidInput: if it is not a positive integer.
    """
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise InvalidInput("count", f"got {count!r}", "Pass a positive integer.")
    return int(count)
