r"""Bernstein and Yue's estimate of an orthant probability, and their deterministic bound.

With g = √α u the orthant integral becomes a mean over u, a vector of independent half-normal variables
(arXiv 2103.01045, 2021):

.. math:: P = 2^{-n} \sqrt{α^n/|K'|}\; E_u \exp\big(½ u^T (I - α K'^{-1}) u\big) .

The mean over draws is their C0. Since log E exp ≥ E (Jensen), and E u_i² = 1, E u_i u_j = 2/π,

.. math:: \log P \ge -n \log 2 - ½ \log|K'| + \frac n2 \log α + \frac{n - α a}2, \qquad
    a = \big(1 - \tfrac2π\big) \operatorname{tr} K'^{-1} + \tfrac2π 1^T K'^{-1} 1

for every α > 0. Their C1 takes α = |K'|^{1/n} (and rounds n (log 2 - ½) up to n/5). The right-hand side is largest
at α = n/a:

.. math:: \log P \ge -n \log 2 - ½ \log|K'| - \frac n2 \log\frac an .

C0 is unbiased for P and nearly useless for large n: along a direction e of the orthant the weights have a tail of
index k = 1 - α eᵀ K'⁻¹ e, close to 1 if K' has a large eigenvalue, and for k ≥ ½ their variance is infinite.
"""

from __future__ import annotations

import math
import time

import numpy as np
from jaxtyping import Float
from scipy.linalg import get_blas_funcs, get_lapack_funcs
from scipy.special import logsumexp

from nngp_prior.errors import InvalidKernel
from nngp_prior.numerics.random import generator
from nngp_prior.probability.diagnostics import largest_for_pareto, pareto_k
from nngp_prior.probability.factored_kernel import FactoredKernel
from nngp_prior.probability.registry import ESTIMATORS
from nngp_prior.progress import Progress, ProgressCallback
from nngp_prior.schemas.results.estimate import Estimate, Replicates
from nngp_prior.schemas.specs.estimator import BernsteinYue

_CHUNK_BYTES = 2**26
_REPLICATES = 256  # many small ones make the lower bound tight
_PARETO_K_TRUSTED = 0.5  # above this the variance is infinite
_LARGEST_SHARE_TRUSTED = 0.06
_FEWEST_EFFECTIVE_DRAWS = 100


@ESTIMATORS.register(BernsteinYue)
def estimate_bernstein_yue(
    kernel: FactoredKernel, labels: np.ndarray, parameters: BernsteinYue, seed: int, progress: ProgressCallback
) -> Estimate:
    """Estimate by C0 with its spread over replicates; the bounds hold for any draws, up to rounding.

    All quantities are those of the correlations of the distinct inputs: P is the same, the bounds depend on the scale
    of each input, and a unit diagonal is the natural choice.

    Returns:
        an estimate whose ``lower_bound`` is the larger of the certain bound and the replicates'; ``diagnostics`` hold
        ``c1`` (their -C1) and ``c1_optimal_scale`` (with the best α) as lower bounds on log P, in nats.

    Raises:
        InvalidKernel: if K is singular.
    """
    began = time.perf_counter()
    if kernel.rank < kernel.m:
        raise InvalidKernel(
            "K",
            f"is singular (rank {kernel.rank} of {kernel.m} distinct inputs), and bernstein-yue needs its inverse",
            "Pass jitter, such as jitter=1e-6, or use method='smc'.",
        )
    log_determinant = 2 * float(np.log(np.diagonal(kernel.L)).sum())
    a = _mean_quadratic_form(kernel.L, labels)
    alpha = math.exp(log_determinant / kernel.m)
    certain = jensen_bound(kernel.m, log_determinant, a, kernel.m / a)
    weights = _draw(kernel.L, labels, alpha, parameters.draws, seed, progress)
    # The prefactor is 2⁻ⁿ: with this α the determinant cancels.
    evidence = Replicates(
        log_estimates=tuple((weights.log_sums - np.log(weights.counts) - kernel.m * math.log(2)).tolist()),
        certain=certain,
    )
    k_hat, share, effective = weights.pareto_k(), weights.largest_share(), weights.effective_sample_size()
    heavy_tail = k_hat is not None and k_hat > _PARETO_K_TRUSTED and share > _LARGEST_SHARE_TRUSTED
    heavy_tail = heavy_tail or effective < _FEWEST_EFFECTIVE_DRAWS or evidence.value() < certain
    message = (
        f"{effective:.3g} effective draws carry the value: it and its standard error cannot be trusted, the lower "
        "bound can; use smc"
    )
    return Estimate(
        value=evidence.value(),
        stderr=evidence.stderr(),
        n=kernel.n,
        method="bernstein-yue",
        status="heavy-tailed" if heavy_tail else "ok",
        message="; ".join(part for part in (message if heavy_tail else "", kernel.note()) if part),
        diagnostics={
            "c1": jensen_bound(kernel.m, log_determinant, a, alpha),
            "c1_optimal_scale": certain,
            "draws": parameters.draws,
            "effective_sample_size": effective,
            "pareto_k": k_hat,
            "largest_share_of_variance": share,
            "distinct_inputs": kernel.distinct_inputs,
        },
        seconds=time.perf_counter() - began,
        evidence=evidence,
    )


def jensen_bound(n: int, log_determinant: float, a: float, alpha: float) -> float:
    """Return the lower bound on log P for a given α, in nats: -n log 2 - ½ log |K'| + ½ n log α + ½ (n - α a)."""
    return -n * math.log(2) - 0.5 * log_determinant + 0.5 * n * math.log(alpha) + 0.5 * (n - alpha * a)


def _mean_quadratic_form(L: Float[np.ndarray, "m m"], labels: Float[np.ndarray, " m"]) -> float:
    """Return a = E uᵀ K'⁻¹ u = (1 - 2/π) tr K'⁻¹ + (2/π) 1ᵀ K'⁻¹ 1 from the factor of C, K' = diag(y) C diag(y)."""
    (trtri,) = get_lapack_funcs(("trtri",), dtype=L.dtype)
    inverse, _ = trtri(L.copy(order="F"), lower=1, overwrite_c=1)
    (nrm2, trsv) = get_blas_funcs(("nrm2", "trsv"), dtype=L.dtype)
    trace = float(nrm2(inverse.ravel(order="K"))) ** 2
    along_labels = float(nrm2(trsv(L, labels, lower=1))) ** 2
    return (1 - 2 / math.pi) * trace + 2 / math.pi * along_labels


class _Weights:
    """Running statistics of the weights of draws; only what the statistics need is kept.

    Args:
        draws: total number of draws.
    """

    def __init__(self, draws: int) -> None:
        parts = min(_REPLICATES, draws)
        self.counts = np.full(parts, draws // parts)
        self.counts[: draws % parts] += 1
        self.log_sums = np.full(parts, -np.inf)
        self._ends, self._draws, self._done = np.cumsum(self.counts), draws, 0
        self._log_squares = -np.inf
        self._largest = np.empty(0)

    def add(self, log_weights: Float[np.ndarray, " some"]) -> None:
        """Add the logarithms of the next weights."""
        first, self._done = self._done, self._done + len(log_weights)
        for part in range(*np.searchsorted(self._ends, [first, self._done - 1], side="right") + np.array([0, 1])):
            start = max(self._ends[part] - self.counts[part], first) - first
            own = log_weights[start : min(self._ends[part], self._done) - first]
            self.log_sums[part] = np.logaddexp.reduce(own, initial=self.log_sums[part])
        self._log_squares = np.logaddexp(self._log_squares, logsumexp(2 * log_weights))
        self._largest = largest_for_pareto(np.concatenate([self._largest, log_weights]), self._draws)

    def pareto_k(self) -> float | None:
        return pareto_k(self._largest, self._draws)

    def effective_sample_size(self) -> float:
        return math.exp(2 * float(logsumexp(self.log_sums)) - float(self._log_squares))

    def largest_share(self) -> float:
        """As :func:`nngp_prior.probability.diagnostics.largest_share`, with weights in units of the largest."""
        peak = float(self._largest.max())
        mean = math.exp(float(logsumexp(self.log_sums)) - peak) / self._draws
        total = math.exp(float(self._log_squares) - 2 * peak) - self._draws * mean**2
        return min((1 - mean) ** 2 / total, 1.0) if total > 0 else 0.0


def _draw(
    L: Float[np.ndarray, "m m"],
    labels: Float[np.ndarray, " m"],
    alpha: float,
    draws: int,
    seed: int,
    progress: ProgressCallback,
) -> _Weights:
    """Draw weights with logarithms ½ uᵀ (I - α K'⁻¹) u = ½ (|u|² - α |L⁻¹ diag(y) u|²), u half-normal."""
    rng = generator(seed, "bernstein-yue")
    (trsm,) = get_blas_funcs(("trsm",), dtype=L.dtype)
    chunk = max(1, min(draws, _CHUNK_BYTES // (8 * len(L))))
    weights = _Weights(draws)
    for start in range(0, draws, chunk):
        stop = min(start + chunk, draws)
        u = np.abs(rng.standard_normal((stop - start, len(L)))).T  # in Fortran order
        squared = np.einsum("ij,ij->j", u, u)
        u *= labels[:, None]
        whitened = trsm(1.0, L, u, lower=1, overwrite_b=1)
        weights.add(0.5 * (squared - alpha * np.einsum("ij,ij->j", whitened, whitened)))
        progress(Progress("draws", stop, draws))
    return weights
