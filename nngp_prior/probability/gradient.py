r"""Derivatives of log P with respect to the kernel.

For a direction dK (Williams & Rasmussen 2006, eq. 5.9, holds given f; here f is averaged over its posterior f | y)

.. math:: d \log P = ½ E[α^T \, dK \, α] - ½ \operatorname{tr}(K^{-1} dK), \qquad α = K^{-1} f, \; f ~ f | y .

In whitened variables f = L ε the first term is E[εᵀ A ε] with A = L⁻¹ dK L⁻ᵀ, and the second tr A. The orthant is a
cone, so that P does not depend on the scale of K and E[εᵀ ε] = n exactly: εᵀ ε - n is a control variate, and removes
most of the variance, since kernels' derivatives are nearly proportional to kernels. EP's log Z is stationary in its
sites, so that its derivative has the same form, with its Gaussian in place of the posterior.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from typing_extensions import override

from nngp_prior import progress as _progress
from nngp_prior import style
from nngp_prior.errors import InvalidInput, InvalidKernel
from nngp_prior.probability.common_random_numbers import labels_kept, ratios_of_means, run_labelling, seed_of
from nngp_prior.probability.ep import EPResult, Sites, estimate_ep, expectation_propagation
from nngp_prior.probability.factored_kernel import FactoredKernel, blas_for, prepare
from nngp_prior.progress import ProgressCallback, ProgressOption
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.seeds import SeedLike, checked_seed
from nngp_prior.schemas.specs.estimator import EP, SMC, Estimator, estimator_of
from nngp_prior.schemas.specs.labels import check_labels
from nngp_prior.schemas.table import Column, Table, Tabular

_ASYMMETRY = 1e-9  # relative difference of a derivative and its transpose that counts as rounding


@dataclass(frozen=True, repr=False)
class LogProbabilityGradient(Tabular):
    """log P and its derivatives along some directions; the data frame has a row for each direction.

    Attributes:
        log_p: estimate of log P.
        value: (p,) derivatives, nats per unit of each parameter.
        stderr: (p,) jackknife standard errors over replicates; None for ``ep``.
        ep: (p,) derivatives of EP's log Z, without an error statement.
        names: names of the directions.
    """

    log_p: Estimate
    value: Float[np.ndarray, " p"]
    stderr: Float[np.ndarray, " p"] | None
    ep: Float[np.ndarray, " p"]
    names: tuple[str, ...]

    @override
    def _summary(self) -> str:
        errors = [""] * len(self.value) if self.stderr is None else [f" ± {error:.2g}" for error in self.stderr]
        parts = [f"{n}: {v:.4g}{e}" for n, v, e in zip(self.names, self.value, errors, strict=True)]
        return f"log P = {self.log_p.value:.6g}; {', '.join(parts)}"

    @override
    def _table(self) -> Table:
        stderr = self.stderr
        columns = [
            Column("parameter", lambda i: self.names[i], "str", "parameter"),
            Column("value", lambda i: float(self.value[i]), heading="d log P", form=".5g"),
            Column("stderr", lambda i: None if stderr is None else float(stderr[i]), heading="s.e.", form=".2g"),
            Column("ep", lambda i: float(self.ep[i]), heading="EP", form=".5g"),
        ]
        return Table(columns, range(len(self.value)))

    @override
    def _draw(self, ax: Any) -> None:
        error = np.zeros(len(self.value)) if self.stderr is None else 2 * self.stderr
        place = np.arange(len(self.value))
        style.points(ax, place, self.value, self.value - error, self.value + error)
        ax.set_xticks(place, self.names)
        ax.axhline(0.0, color="grey", lw=0.8, ls=":")
        ax.set(xlabel="parameter", ylabel="d log P (nats)")


def log_probability_gradient(
    K: ArrayLike,
    y: ArrayLike,
    dK: ArrayLike | Sequence[ArrayLike],
    method: str | Estimator = "smc",
    *,
    names: Sequence[str] | None = None,
    seed: SeedLike = 0,
    progress: ProgressOption = None,
    **options: Any,
) -> LogProbabilityGradient:
    """Estimate log P of a labelling and its derivatives along directions in which the kernel changes.

    Args:
        K: (n, n) covariance matrix of full rank.
        y: (n,) integers -1/+1 or booleans.
        dK: (n, n) symmetric derivative of K with respect to a parameter, such as ``kernel(…, get="d-weight-std")``, or
            p of them.
        method: ``smc``, or ``ep`` for the derivatives of EP's log Z alone, or a specification of one of them.
        names: names of the p parameters, for tables.
        seed: as for :func:`nngp_prior.log_probability`.
        progress: True to show progress, or a callback, called with ``Progress`` events.
        **options: fields of the method's specification; not ``classes`` and ``target_stderr``. With ``jitter`` the
            added diagonal changes with K.

    Returns:
        log P, derivatives in nats per unit of each parameter, and standard errors.

    Raises:
        InvalidInput: if K, y, dK or an option is invalid.
        InvalidKernel: if K is singular.
        InvalidLabels: if the labelling has probability 0.
    """
    estimator = estimator_of(method, **options)
    if type(estimator) not in (SMC, EP):
        raise InvalidInput("method", f"got {estimator.kind!r}, which has no derivative", "Use smc or ep.")
    classes, target = getattr(estimator, "classes", None), getattr(estimator, "target_stderr", None)
    if classes is not None:
        problem = f"got {classes!r} where labels are -1 and +1"
        raise InvalidInput("classes", problem, "Pass labels -1 and +1, such as one class against the rest.")
    if target is not None:
        problem = f"got {target!r}, and a gradient has many numbers"
        raise InvalidInput("target_stderr", problem, "Pass more particles or replicates instead.")
    with _progress.shown(progress, "gradient of log P") as tell:
        kernel = prepare(K, estimator)
        labels = labels_kept(kernel, check_labels(y, kernel.n))
        directions = _directions(dK, kernel.n)
        names = tuple(names or (f"dK[{i}]" for i in range(len(directions))))
        if len(names) != len(directions):
            raise InvalidInput("names", f"are {len(names)} for {len(directions)} directions", "Name each of them.")
        if kernel.rank < kernel.m:
            problem = f"has rank {kernel.rank} for {kernel.m} inputs, and log P is not differentiable there"
            raise InvalidKernel("K", problem, "Pass jitter=1e-6.")
        with blas_for(kernel.n):
            return _gradient(kernel, labels, directions, estimator, names, checked_seed(seed), tell)


def _directions(dK: ArrayLike | Sequence[ArrayLike], n: int) -> list[np.ndarray]:
    arrays = np.array(dK, dtype=np.float64, copy=None, ndmin=3)
    if arrays.ndim != 3 or arrays.shape[1:] != (n, n) or not len(arrays):
        raise InvalidInput("dK", f"has shape {arrays.shape} where K is ({n}, {n})", "Pass matrices of K's shape.")
    if not np.isfinite(arrays).all():
        raise InvalidInput("dK", "has entries that are not finite", "Pass finite numbers.")
    if np.abs(arrays - arrays.swapaxes(1, 2)).max() > _ASYMMETRY * np.abs(arrays).max():
        raise InvalidInput("dK", "is not symmetric", "Pass derivatives of symmetric matrices.")
    return list(arrays)


def _gradient(
    kernel: FactoredKernel,
    labels: Float[np.ndarray, " m"],
    directions: list[np.ndarray],
    estimator: Any,
    names: tuple[str, ...],
    seed: int,
    progress: ProgressCallback,
) -> LogProbabilityGradient:
    began = time.perf_counter()
    parameters = EP(precision=estimator.precision) if isinstance(estimator, SMC) else estimator
    whitened = [_whitened(kernel, direction, estimator.jitter) for direction in directions]
    ep = expectation_propagation(kernel, labels, parameters, progress)
    of_ep = _derivatives(_moments_of_ep(kernel, labels, ep, whitened), whitened)
    if isinstance(estimator, EP):
        log_p = estimate_ep(kernel, labels, estimator, seed, progress, start=ep.sites)
        return LogProbabilityGradient(log_p, of_ep, None, of_ep, names)
    start = ep.sites if np.isfinite(ep.log_z) else None
    run = run_labelling(kernel, labels, estimator, seed_of(labels, seed), kernel.rank, progress, keep=True, start=start)
    assert run.epsilon is not None
    epsilon = run.epsilon.reshape(kernel.rank, -1)
    weights = np.exp(run.log_weights - run.log_weights.max())
    square = np.einsum("ic,ic->c", epsilon, epsilon) - kernel.rank
    forms = np.array([np.einsum("ic,ic->c", epsilon, A @ epsilon) for A in whitened])
    forms -= _slopes(forms, square, weights.ravel())[:, None] * square
    sums = np.einsum("drp,rp->dr", forms.reshape(-1, *weights.shape), weights)
    value, stderr = ratios_of_means(sums, weights.sum(axis=1))
    log_p = run.estimate(kernel, time.perf_counter() - began)
    return LogProbabilityGradient(log_p, _derivatives(value, whitened), 0.5 * stderr, of_ep, names)


def ep_gradient(
    kernel: FactoredKernel,
    labels: Float[np.ndarray, " m"],
    directions: Sequence[np.ndarray],
    parameters: EP,
    start: Sites | None = None,
) -> tuple[EPResult, Float[np.ndarray, " p"]]:
    """Run EP and return it with the derivatives of its log Z.

    Args:
        kernel: a factored kernel of full rank.
        labels: ±1 for the inputs kept, in the order of visits.
        directions: (n, n) derivatives of K.
        parameters: specification of EP.
        start: initial sites.

    Returns:
        EP's result, and derivatives in nats.
    """
    whitened = [_whitened(kernel, direction, parameters.jitter) for direction in directions]
    ep = expectation_propagation(kernel, labels, parameters, _progress.ignore, start=start)
    return ep, _derivatives(_moments_of_ep(kernel, labels, ep, whitened), whitened)


def _derivatives(moments: Float[np.ndarray, " p"], whitened: list[np.ndarray]) -> Float[np.ndarray, " p"]:
    """Return ½ (E[εᵀ A ε] - tr A) for each direction."""
    return 0.5 * (moments - np.array([A.trace() for A in whitened]))


def _whitened(kernel: FactoredKernel, dK: np.ndarray, jitter: float) -> Float[np.ndarray, "m m"]:
    """Return A = L⁻¹ dK L⁻ᵀ for correlations of the inputs kept; the jitter changes with the mean diagonal."""
    A = dK[np.ix_(kernel.kept, kernel.kept)]
    A[np.diag_indices_from(A)] += jitter * dK.trace() / len(dK)
    A *= kernel.scale[:, None] * kernel.scale
    A = kernel.algebra.solve(kernel.L, A)
    A = kernel.algebra.solve(kernel.L, np.ascontiguousarray(A.T))
    return (A + A.T) / 2


def _moments_of_ep(
    kernel: FactoredKernel, labels: np.ndarray, ep: EPResult, whitened: list[np.ndarray]
) -> Float[np.ndarray, " p"]:
    """Return E[εᵀ A ε] under EP's Gaussian, whose factor and mean are whitened by the prior's."""
    factor = kernel.algebra.solve(kernel.L, np.asarray(kernel.algebra.to_host(ep.L), dtype=np.float64))
    mean = kernel.algebra.solve(kernel.L, (labels * ep.mean)[:, None])[:, 0]
    return np.array([mean @ A @ mean + np.einsum("ij,ij->", factor, A @ factor) for A in whitened])


def _slopes(forms: np.ndarray, control: np.ndarray, weights: np.ndarray) -> Float[np.ndarray, " directions"]:
    """Return the regression coefficients of quadratic forms on the control variate, over weighted particles."""
    w = weights / weights.sum()
    centred = control - w @ control
    return (forms @ (w * centred)) / (w @ centred**2)
