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

import functools
from typing import Any, overload

import numpy as np
from jaxtyping import Float, Real
from numpy.typing import ArrayLike
from typing_extensions import override

from nngp_prior import kernels
from nngp_prior import progress as _progress
from nngp_prior.architectures import FromNetwork
from nngp_prior.architectures.inputs import check_inputs, requires_architecture
from nngp_prior.errors import InvalidInput, InvalidLabels
from nngp_prior.numerics.random import generator, systematic
from nngp_prior.prior.class_posterior import ClassPosterior
from nngp_prior.prior.conditioned import Conditioned, checked_count
from nngp_prior.probability import require_memory
from nngp_prior.probability.factored_kernel import FactoredKernel
from nngp_prior.progress import ProgressCallback, ProgressOption
from nngp_prior.schemas.results.posterior import GibbsError, Predictive, VoteError, posterior_row
from nngp_prior.schemas.seeds import SeedLike, checked_seed
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.estimator import SMC, classes_of
from nngp_prior.schemas.specs.labels import check_labels_for


@overload
def posterior(
    K: ArrayLike,
    y: ArrayLike,
    *,
    classes: None = None,
    seed: SeedLike = 0,
    progress: ProgressOption = None,
    **options: Any,
) -> Posterior: ...
@overload
def posterior(
    K: ArrayLike, y: ArrayLike, *, classes: int, seed: SeedLike = 0, progress: ProgressOption = None, **options: Any
) -> ClassPosterior: ...
def posterior(
    K: ArrayLike,
    y: ArrayLike,
    *,
    classes: int | None = None,
    seed: SeedLike = 0,
    progress: ProgressOption = None,
    **options: Any,
) -> Posterior | ClassPosterior:
    """Compute the prior given labels of the leading inputs.

    Args:
        K: (n, n) covariance matrix of training and test inputs, the training inputs first. Its scale affects only
            samples.
        y: (m,) labels of the training inputs, 1 ≤ m ≤ n: integers -1/+1 or booleans, or 0 … C-1 with ``classes``.
        classes: number of classes C, if labels are classes.
        seed: random seed; the same seed gives the same values on the same machine.
        progress: True to show progress, or a callback, called with ``Progress`` events.
        **options: fields of :class:`nngp_prior.schemas.specs.estimator.SMC`, such as ``particles``, ``replicates``,
            ``noise_variance`` and ``jitter`` (relative to the mean diagonal of all of K). Not
            ``target_stderr``.

    Returns:
        the posterior; with ``classes`` that of C functions, whose largest is the label.

    Raises:
        InvalidInput: if K, y or an option is invalid, or the labels have probability 0.
        ResourceLimit: if n is too large for the memory.
    """
    with _progress.shown(progress, "posterior") as tell:
        return _posterior(K, y, smc_of(options, classes), seed, tell)


@overload
def function_posterior(
    architecture: Architecture | FromNetwork,
    X: ArrayLike,
    y: ArrayLike,
    X_test: ArrayLike,
    *,
    classes: None = None,
    seed: SeedLike = 0,
    progress: ProgressOption = None,
    **options: Any,
) -> Posterior: ...
@overload
def function_posterior(
    architecture: Architecture | FromNetwork,
    X: ArrayLike,
    y: ArrayLike,
    X_test: ArrayLike,
    *,
    classes: int,
    seed: SeedLike = 0,
    progress: ProgressOption = None,
    **options: Any,
) -> ClassPosterior: ...
@requires_architecture
def function_posterior(
    architecture: Architecture | FromNetwork,
    X: ArrayLike,
    y: ArrayLike,
    X_test: ArrayLike,
    *,
    classes: int | None = None,
    seed: SeedLike = 0,
    progress: ProgressOption = None,
    **options: Any,
) -> Posterior | ClassPosterior:
    """Compute the prior of an infinitely wide network given training labels.

    Args:
        architecture: specification of the network, or a user's own.
        X: (m, …) training inputs.
        y: (m,) training labels: integers -1/+1 or booleans, or 0 … C-1 with ``classes``.
        X_test: (t, …) test inputs.
        classes: number of classes C, if labels are classes.
        seed: as for :func:`posterior`.
        progress: True to show progress, or a callback, called with ``Progress`` events.
        **options: as for :func:`posterior`.

    Returns:
        the posterior.

    Raises:
        InvalidInput: if an argument is invalid.
    """
    parameters = smc_of(options, classes)
    X, X_test = check_inputs("X", X, architecture), check_inputs("X_test", X_test, architecture)
    if X.shape[1:] != X_test.shape[1:]:
        problem = f"has inputs of shape {X_test.shape[1:]} where X has {X.shape[1:]}"
        raise InvalidInput("X_test", problem, "Pass inputs of the same shape.")
    check_labels_for(parameters, y, len(X))
    require_memory(len(X) + len(X_test), parameters, with_kernel=True)
    with _progress.shown(progress, "posterior") as tell:
        K = kernels.kernel(architecture, np.concatenate([X, X_test]), progress=tell)
        return _posterior(K, y, parameters, seed, tell)


def _posterior(
    K: ArrayLike, y: ArrayLike, parameters: SMC, seed: SeedLike, progress: ProgressCallback
) -> Posterior | ClassPosterior:
    kind = Posterior if classes_of(parameters) is None else ClassPosterior
    return kind(K, y, parameters, seed, progress)


def result_row(
    index: int, K: ArrayLike, y: ArrayLike, train: int, parameters: SMC, seed: int, progress: ProgressCallback
) -> dict[str, Any]:
    """Return all results of a posterior at its test inputs, as JSON.

    Args:
        index: index of the labelling in its request.
        K: (n, n) covariances, training inputs first.
        y: (n,) labels of training and test inputs, or classes if the estimator has ``classes``.
        train: number of training inputs.
        parameters: specification of the estimator.
        seed: random seed.
        progress: progress callback.

    Returns:
        as :func:`nngp_prior.schemas.results.posterior.posterior_row`.

    Raises:
        InvalidLabels: for the field ``labels``, if the labels are invalid or have probability 0.
    """
    y = check_labels_for(parameters, y, len(np.asarray(y)), field="labels")
    try:
        found, test = _posterior(K, y[:train], parameters, seed, progress), y[train:]
    except InvalidLabels as error:
        raise InvalidLabels("labels", error.problem, error.remedy) from error  # requests have no argument y
    errors = found.gibbs_error(test), found.vote_error(test)
    return posterior_row(index, found.log_p, found.predictive(), *errors, found.log_probability(test, progress))


def smc_of(options: dict[str, Any], classes: int | None = None) -> SMC:
    """Return the estimator's specification, without options that do not apply to a posterior.

    Args:
        options: fields of the specification; ``classes`` only for callers that do not take it themselves, and refuse
            it.
        classes: number of classes, if the caller takes it.

    Returns:
        the specification.

    Raises:
        InvalidInput: if an option is invalid or does not apply.
    """
    if options.get("classes") is not None:
        problem = f"got {options['classes']!r} where labels are -1 and +1"
        raise InvalidInput("classes", problem, "Pass labels -1 and +1, such as one class against the rest.")
    if options.get("target_stderr") is not None:
        problem = f"got {options['target_stderr']!r}, and a posterior has many numbers"
        raise InvalidInput("target_stderr", problem, "Pass more particles or replicates instead.")
    return SMC(**{**options, "classes": classes})


class Posterior(Conditioned):
    """f | S, the prior given training labels -1 and +1; created by :func:`posterior`."""

    @override
    def _orthant(
        self, kernel: FactoredKernel, labels: Real[np.ndarray, " m"]
    ) -> tuple[FactoredKernel, Float[np.ndarray, " constraints"]]:
        return kernel, labels

    def predictive(self) -> Predictive:
        """Compute predictive probabilities of the test inputs.

        Returns:
            P(label +1 | S) per input, with standard errors.
        """
        return self._predictive

    @functools.cached_property
    def _predictive(self) -> Predictive:
        return self._particles.predictive(self.test, self._standardised, self._certain())

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
        rows, deviations, tied = self._conditional(cross, variances)
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
        return VoteError.of(wrong, uncertain)

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
        count = checked_count(count)
        kernel, rng = self._kernel, generator(checked_seed(seed), "posterior samples")
        epsilon = self._particles.epsilon[:, systematic(self._particles.weights.ravel(), count, rng)]
        z = rng.standard_normal((kernel.rank - self._rank, count))
        f = self._factor() @ np.concatenate([epsilon, z])  # unit prior variance, for the inputs kept
        return (f[kernel.group] * (kernel.sign * self._deviations())[:, None]).T

    def _standardised(self, some: slice) -> Float[np.ndarray, "some replicates particles"]:
        """Return mean over √v of test inputs given each particle, ±∞ if it determines them: Φ(y z) is P(y)."""
        _, rows, deviations = self._rows(some)
        return self._particles.standardised(self._kernel.sign[self.train :][some, None] * rows, deviations)
