r"""Posterior f | S, the prior given the training labels, and its predictions at other inputs.

:mod:`nngp_prior.probability.smc` leaves particles ε with weights w whose f_S = L ε are a weighted sample of f_S | S, L
the factor of the kernel of S. With L_* = K_{*S} L^{-T} the outputs at test inputs are, given ε,

.. math:: f_* | ε ~ N(L_* ε, K_{**} - L_* L_*^T), \qquad
    P(y_i = 1 | S) = \frac{Σ_ε w \, Φ\big((L_* ε)_i/\sqrt{v_i}\big)}{Σ_ε w}, \quad v_i = K_{ii} - (L_* L_*^T)_{ii} .

Numerator and denominator are means over the same independent replicates, hence the jackknife for the ratio. With the
factor of the whole kernel, training inputs first, L_* is a block of its rows, and v_i the sum of squares of the rest
of row i, computed without subtraction. With noise or jitter the prior is that of K + cI at all inputs: labels of test
inputs are then those of noisy outputs, as those of training inputs are.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from nngp_prior import kernels
from nngp_prior import progress as _progress
from nngp_prior.architectures import FromNetwork
from nngp_prior.architectures.inputs import check_inputs, requires_architecture
from nngp_prior.errors import InvalidInput, InvalidLabels
from nngp_prior.numerics.random import generator, systematic
from nngp_prior.prior.weighted_particles import WeightedParticles, require_room
from nngp_prior.probability import memory_needed, prepare, require_memory, seconds_needed
from nngp_prior.probability.checks import as_matrix
from nngp_prior.probability.common_random_numbers import labels_kept, log_ratio, run_labelling, seed_of
from nngp_prior.probability.factored_kernel import FactoredKernel, blas_for, leading_part
from nngp_prior.probability.rounding import with_rounding
from nngp_prior.progress import Progress, ProgressCallback, ProgressOption
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.results.estimate import Approximate, Estimate, Exact
from nngp_prior.schemas.results.posterior import GibbsError, Predictive, VoteError, posterior_row
from nngp_prior.schemas.seeds import SeedLike, checked_seed
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.estimator import SMC
from nngp_prior.schemas.specs.labels import check_labels, label_array


def posterior(
    K: ArrayLike, y: ArrayLike, *, seed: SeedLike = 0, progress: ProgressOption = None, **options: Any
) -> Posterior:
    """Compute the prior given labels of the leading inputs.

    Args:
        K: (n, n) covariance matrix of training and test inputs, the training inputs first. Its scale affects only
            samples.
        y: (m,) labels of the training inputs, 1 ≤ m ≤ n: integers -1/+1 or booleans.
        seed: random seed; the same seed gives the same values on the same machine.
        progress: True to show progress, or a callback, called with ``Progress`` events.
        **options: fields of :class:`nngp_prior.schemas.specs.estimator.SMC`, such as ``particles``, ``replicates``,
            ``noise_variance`` and ``jitter`` (relative to the mean diagonal of all of K). Not ``classes`` and
            ``target_stderr``.

    Returns:
        the posterior.

    Raises:
        InvalidInput: if K, y or an option is invalid, or the labels have probability 0.
        ResourceLimit: if n is too large for the memory.
    """
    with _progress.shown(progress, "posterior") as tell:
        return Posterior(K, y, smc_of(options), seed, tell)


@requires_architecture
def function_posterior(
    architecture: Architecture | FromNetwork,
    X: ArrayLike,
    y: ArrayLike,
    X_test: ArrayLike,
    *,
    seed: SeedLike = 0,
    progress: ProgressOption = None,
    **options: Any,
) -> Posterior:
    """Compute the prior of an infinitely wide network given training labels.

    Args:
        architecture: specification of the network, or a user's own.
        X: (m, …) training inputs.
        y: (m,) training labels: integers -1/+1 or booleans.
        X_test: (t, …) test inputs.
        seed: as for :func:`posterior`.
        progress: True to show progress, or a callback, called with ``Progress`` events.
        **options: as for :func:`posterior`.

    Returns:
        the posterior.

    Raises:
        InvalidInput: if an argument is invalid.
    """
    parameters = smc_of(options)
    X, X_test = check_inputs("X", X, architecture), check_inputs("X_test", X_test, architecture)
    if X.shape[1:] != X_test.shape[1:]:
        problem = f"has inputs of shape {X_test.shape[1:]} where X has {X.shape[1:]}"
        raise InvalidInput("X_test", problem, "Pass inputs of the same shape.")
    check_labels(y, len(X))
    require_memory(len(X) + len(X_test), parameters, with_kernel=True)
    with _progress.shown(progress, "posterior") as tell:
        K = kernels.kernel(architecture, np.concatenate([X, X_test]), progress=tell)
        return Posterior(K, y, parameters, seed, tell)


def result_row(
    index: int, K: ArrayLike, y: ArrayLike, train: int, parameters: SMC, seed: int, progress: ProgressCallback
) -> dict[str, Any]:
    """Return all results of a posterior at its test inputs, as JSON.

    Args:
        index: index of the labelling in its request.
        K: (n, n) covariances, training inputs first.
        y: (n,) labels of training and test inputs.
        train: number of training inputs.
        parameters: specification of the estimator.
        seed: random seed.
        progress: progress callback.

    Returns:
        as :func:`nngp_prior.schemas.results.posterior.posterior_row`.

    Raises:
        InvalidLabels: for the field ``labels``, if the labels are invalid or have probability 0.
    """
    y = label_array(y, "labels")
    try:
        found, test = Posterior(K, y[:train], parameters, seed, progress), y[train:]
    except InvalidLabels as error:
        raise InvalidLabels("labels", error.problem, error.remedy) from error  # requests have no argument y
    errors = found.gibbs_error(test), found.vote_error(test)
    return posterior_row(index, found.log_p, found.predictive(), *errors, found.log_probability(test, progress))


def smc_of(options: dict[str, Any]) -> SMC:
    """Return the estimator's specification, without options that do not apply to a posterior."""
    if options.get("classes") is not None:
        problem = f"got {options['classes']!r} where labels are -1 and +1"
        raise InvalidInput("classes", problem, "Pass labels -1 and +1, such as one class against the rest.")
    if options.get("target_stderr") is not None:
        problem = f"got {options['target_stderr']!r}, and a posterior has many numbers"
        raise InvalidInput("target_stderr", problem, "Pass more particles or replicates instead.")
    return SMC(**options)


def _expected(n: int, dimensions: int, parameters: SMC) -> Progress:
    """Return the cost of a run on n inputs with random numbers of the given dimension."""
    cost = Cost(memory_needed(dimensions, parameters), seconds_needed(n, parameters))
    return Progress("labellings", 0, 1, cost)


class Posterior:
    """f | S, the prior given the training labels; created by :func:`posterior`.

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
        self._labels = check_labels(given, len(given))
        self.train, self.test = len(given), len(matrix) - len(given)
        require_room(self.train, len(matrix), parameters)
        self._parameters = parameters
        self._kernel = prepare(matrix, parameters, self.train)
        self.diagonal_shift = self._kernel.diagonal_shift
        kernel = leading_part(self._kernel, self.train)
        y = labels_kept(kernel, self._labels)
        self._seed = seed_of(self._labels, seed)
        with blas_for(kernel.n):
            progress(_expected(self.train, len(matrix), parameters))
            self._run = run_labelling(kernel, y, parameters, self._seed, self._kernel.n, progress, keep=True)
            self.log_p = self._run.estimate(kernel, time.perf_counter() - began)

            def estimate(other: FactoredKernel) -> Estimate:
                labels, dimensions = self._labels[other.kept], self._kernel.n
                return run_labelling(other, labels, parameters, self._seed, dimensions, progress).estimate(other, 0.0)

            self.log_p = with_rounding(self.log_p, kernel, estimate)
        self._rank = kernel.rank
        if not math.isfinite(self.log_p.value):
            raise InvalidLabels("y", self.log_p.message, "There is no posterior without them.")
        self._particles = WeightedParticles.of(self._run)
        self._predictive: Predictive | None = None

    def predictive(self) -> Predictive:
        """Compute predictive probabilities of the test inputs.

        Returns:
            P(label +1 | S) per input, with standard errors.
        """
        if self._predictive is None:
            self._predictive = self._particles.predictive(self.test, self._standardised, self._certain())
        return self._predictive

    def predictive_at(self, cross: ArrayLike, variances: ArrayLike) -> Predictive:
        """Compute predictive probabilities at inputs that are not in K.

        Those of an input depend only on its own covariances, not on the other inputs.

        Args:
            cross: (t, m) covariances with the training inputs.
            variances: (t,) prior variances, without noise.

        Returns:
            P(label +1 | S) per input, with standard errors.

        Raises:
            InvalidInput: if the shapes do not match, values are not finite, or variances are not positive.
        """
        K_cross, K_own = np.asarray(cross, np.float64), np.asarray(variances, np.float64)
        if K_cross.ndim != 2 or K_cross.shape[1] != self.train or not np.isfinite(K_cross).all():
            problem = f"has shape {K_cross.shape}" if np.isfinite(K_cross).all() else "has values that are not finite"
            remedy = f"Pass covariances of t inputs with the {self.train} training inputs, (t, {self.train})."
            raise InvalidInput("cross", problem, remedy)
        if K_own.shape != K_cross.shape[:1] or not (np.isfinite(K_own) & (K_own + self.diagonal_shift > 0)).all():
            remedy = "Pass a positive number per row of cross."
            raise InvalidInput("variances", f"got shape {K_own.shape}, or a value that is no variance", remedy)
        kernel = leading_part(self._kernel, self.train) if self.test else self._kernel
        rows, deviations, tied = kernel.conditional(K_cross, K_own)
        particles = self._particles
        return particles.predictive(len(rows), lambda some: particles.standardised(rows[some], deviations[some]), tied)

    def gibbs_error(self, y: ArrayLike) -> GibbsError:
        """Compute the expected error at the test inputs of a function drawn from the posterior.

        Args:
            y: (t,) labels of the test inputs.

        Returns:
            the mean over test inputs of P(another label | S), and its standard error.
        """
        return self._particles.gibbs_error(self._test_labels(y), self._standardised, bool(self._certain().all()))

    def vote_error(self, y: ArrayLike) -> VoteError:
        """Compute the error at the test inputs of the vote, the label with the larger predictive probability.

        Args:
            y: (t,) labels of the test inputs.

        Returns:
            the fraction of test inputs whose vote is wrong, and its possible change by uncertain votes.
        """
        y, predictive = self._test_labels(y), self.predictive()
        wrong, uncertain = 0.5 * (1 - predictive.votes * y), predictive.uncertain()
        low = float(wrong[~uncertain].sum()) / self.test
        return VoteError(float(wrong.mean()), low, low + float(uncertain.mean()), int(uncertain.sum()))

    def samples(self, count: int, seed: SeedLike = 0) -> Float[np.ndarray, "{count} n"]:
        """Draw functions from the posterior, at training and test inputs.

        Particles are drawn by weight (systematically, in random order), and outputs at test inputs from their Gaussian
        distribution given the particle. So values at training inputs repeat if more samples are drawn than there are
        effective particles (``log_p.diagnostics["effective_sample_size"]``); values at test inputs never do, unless
        the training inputs determine them.

        Args:
            count: number of functions.
            seed: random seed of the draw.

        Returns:
            outputs in the units of √K, one function per row, in the order of K; with noise or jitter, noisy outputs.
            The signs at training inputs are the labels.

        Raises:
            InvalidInput: if ``count`` is not a positive integer.
        """
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
            raise InvalidInput("count", f"got {count!r}", "Pass a positive integer.")
        kernel, rng = self._kernel, generator(checked_seed(seed), "posterior samples")
        epsilon = self._particles.epsilon[:, systematic(self._particles.weights.ravel(), count, rng)]
        z = rng.standard_normal((kernel.rank - self._rank, int(count)))
        f = self._factor() @ np.concatenate([epsilon, z])  # unit prior variance, for the inputs kept
        deviations = np.sqrt(kernel.K.diagonal().astype(np.float64) + kernel.diagonal_shift)
        return (f[kernel.group] * (kernel.sign * deviations)[:, None]).T

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
        """
        began = time.perf_counter()
        kernel, whole = self._kernel, np.concatenate([self._labels, self._test_labels(y)])
        kept = kernel.reduce(whole)
        if kept is None or kernel.m == int(np.sum(kernel.kept < self.train)):
            return self._exact(-math.inf if kept is None else 0.0, whole)
        with blas_for(kernel.n), _progress.shown(progress, "log P of test labels") as tell:
            tell(_expected(kernel.n, kernel.n, self._parameters))
            run = run_labelling(kernel, kept, self._parameters, self._seed, kernel.n, tell, self._run.shares)
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
        return f"<Posterior of {self.train:,} training and {self.test:,} test inputs, {self.log_p}>"

    def _exact(self, value: float, labels: np.ndarray) -> Estimate:
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

    def _test_labels(self, y: ArrayLike) -> Float[np.ndarray, " t"]:
        given = label_array(y)
        if self.test == 0:
            raise InvalidInput("y", "there are no test inputs", "Pass K of training and test inputs.")
        if given.shape != (self.test,):
            problem = f"has shape {given.shape} where there are {self.test} test inputs"
            raise InvalidLabels("y", problem, "Pass one label per test input, without those of the training inputs.")
        return check_labels(given, self.test)

    def _factor(self) -> Float[np.ndarray, "m rank"]:
        return self._kernel.algebra.to_host(self._kernel.L)

    def _certain(self) -> np.ndarray:
        """Return a mask of the test inputs whose labels training inputs determine: those tied to one."""
        return self._kernel.kept[self._kernel.group[self.train :]] < self.train

    def _standardised(self, some: slice) -> Float[np.ndarray, "some replicates particles"]:
        """Return mean over √v of test inputs given each particle, ±∞ if it determines them: Φ(y z) is P(y)."""
        kernel = self._kernel
        rows = self._factor()[kernel.group[self.train :][some]]
        deviations = np.sqrt(np.square(rows[:, self._rank :]).sum(axis=1))
        return self._particles.standardised(kernel.sign[self.train :][some, None] * rows[:, : self._rank], deviations)
