r"""EP with the second-order cumulant correction of Opper, Paquet and Winther (JMLR 14, 2013).

EP replaces each constraint by a Gaussian site t_i so that the tilted distribution p̂_i (the exact constraint, all other
sites) and the marginal q_i of the Gaussian q agree in mean and variance. The part it omits is exactly

.. math:: \frac{P}{Z_{EP}} = E_q \prod_i \frac{p̂_i(g_i)}{q_i(g_i)} .

Each ratio is the exponential of a series in the cumulants c_l, l ≥ 3, in which p̂_i and q_i differ: with k_i a complex
Gaussian variable, <k_i²> = 0 and <k_i k_j> = -Σ_ij/(Σ_ii Σ_jj), the right-hand side is

.. math:: \Big\langle \exp \sum_i r_i(k_i) \Big\rangle, \qquad r_i(k) = \sum_{l \ge 3} i^l \frac{c_{l,i}}{l!} k^l .

The first cumulant of the exponent is zero, since <k_i^l> = 0; the second one gives, with κ the cumulants of p̂_i in its
standard deviations and ρ the correlations of q,

.. math:: \log P ≈ \log Z_{EP} + ½ \sum_{i \ne j} \sum_{l \ge 3} \frac{κ_{l,i} κ_{l,j}}{l!} ρ_{ij}^l .

The series in l is asymptotic, and terms beyond the skewness are of the same order as those of the third cumulant of
the expansion, with which they nearly cancel on strongly correlated kernels. Hence the default correction uses only the
skewness. There is no error bar; the status flags cases in which errors beyond a sixth of the correction were seen.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from scipy.linalg import get_blas_funcs

from nngp_prior.numerics import blas
from nngp_prior.numerics.gaussian import half_line_cumulants
from nngp_prior.probability.ep import EPResult, Sites, ep_diagnostics, expectation_propagation
from nngp_prior.probability.factored_kernel import FactoredKernel
from nngp_prior.probability.registry import ESTIMATORS
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.results.estimate import Estimate, Status
from nngp_prior.schemas.specs.estimator import EP2

_ROWS = 256
# From equicorrelated, squared exponential, Markov and network kernels, n = 2 to 1,000: within these limits the error
# after the skewness was at most a sixth of the term, beyond them up to a half.
_TYPICAL_CORRELATION_TRUSTED = 0.65
_NEXT_TERM_TRUSTED = 1.0
_NEGLIGIBLE_CORRECTION = 0.01  # nats


@ESTIMATORS.register(EP2)
def estimate_ep2(
    kernel: FactoredKernel,
    labels: np.ndarray,
    parameters: EP2,
    seed: int,
    progress: ProgressCallback,
    start: Sites | None = None,
    on_sites: Callable[[Sites], None] | None = None,
) -> Estimate:
    """Return EP's log Z plus the correction as an estimate of log P, without an error statement."""
    del seed
    began = time.perf_counter()
    ep = expectation_propagation(kernel, labels, parameters, progress, start=start)
    if on_sites is not None:
        on_sites(ep.sites)
    terms, typical_correlation = np.full(parameters.highest_cumulant - 2, np.nan), math.nan
    value = ep.log_z
    if np.isfinite(ep.log_z):
        # One order more than is used: the next term shows whether the series falls.
        terms, typical_correlation = correction_terms(
            replace(ep, L=kernel.algebra.to_host(ep.L)), labels, max(4, parameters.highest_cumulant)
        )
        value += float(terms[: parameters.highest_cumulant - 2].sum())
    status, message = _verdict(ep, value, terms, typical_correlation)
    return Estimate(
        value=value if np.isfinite(value) else -math.inf,
        stderr=None,
        n=kernel.n,
        method="ep2",
        status=status,
        message="; ".join(part for part in (message, kernel.note()) if part),
        diagnostics={
            **ep_diagnostics(kernel, ep),
            "correction": value - ep.log_z,
            "correction_terms": {str(order): float(term) for order, term in enumerate(terms, 3)},
            "typical_correlation": typical_correlation,
        },
        seconds=time.perf_counter() - began,
    )


def correction_terms(
    ep: EPResult, labels: Float[np.ndarray, " m"], highest: int
) -> tuple[Float[np.ndarray, " orders"], float]:
    r"""Return the correction's terms of order l = 3 … highest, ½ Σ_{i≠j} κ_{l,i} κ_{l,j} ρ_ij^l / l!, in nats.

    Rows of Σ = diag(y) L Lᵀ diag(y) are computed as needed.

    Args:
        ep: sites, factor and mean at the end of EP.
        labels: ±1, in the order of visits.
        highest: highest order.

    Returns:
        the terms, and the mean of |ρ_ij| over pairs, weighted by the absolute size of the pair's term of order 3.
    """
    s, nu = ep.sites.precision, ep.sites.shift
    variance = np.einsum("ij,ij->i", ep.L, ep.L)
    tau = 1 / variance - s
    kappa = half_line_cumulants((ep.mean / variance - nu) / np.sqrt(tau), highest)
    deviation = labels * np.sqrt(variance)  # with the sign that L lacks
    size = np.abs(kappa[0])
    terms = np.zeros(highest - 2)
    weights = weighted = 0.0
    (gemv,) = get_blas_funcs(("gemv",), dtype=ep.L.dtype)
    for start in range(0, len(variance), _ROWS):
        stop = min(start + _ROWS, len(variance))
        # The lower triangle, each pair once; L is lower trapezoidal.
        rho = np.zeros((stop - start, stop), dtype=ep.L.dtype, order="F")
        blas.gemm(1.0, ep.L[start:stop, :stop], ep.L[:stop, :stop], rho, trans_b=True)
        rho /= deviation[start:stop, None]
        rho /= deviation[:stop]
        rho *= np.arange(stop) < np.arange(start, stop)[:, None]
        power = rho * rho
        for order, k in enumerate(kappa, 3):
            power *= rho
            terms[order - 3] += k[start:stop] @ gemv(1.0, power, k[:stop]) / math.factorial(order)
        np.abs(rho, out=rho)
        np.multiply(rho, rho, out=power)
        power *= rho
        weights += float(size[start:stop] @ gemv(1.0, power, size[:stop]))
        power *= rho
        weighted += float(size[start:stop] @ gemv(1.0, power, size[:stop]))
    return terms, weighted / weights if weights > 0 else 0.0


def _verdict(ep: EPResult, value: float, terms: np.ndarray, typical_correlation: float) -> tuple[Status, str]:
    if not np.isfinite(value):
        return "numerical-failure", "a cavity variance is not positive; pass jitter=1e-8, or use smc"
    if not ep.converged:
        return "not-converged", (
            f"EP's last of {ep.sweeps} sweeps moved a mean by {ep.change:.1g} standard deviations, rounding by "
            f"{ep.drift:.1g}; raise max_sweeps, or pass jitter if K is nearly singular"
        )
    skewness, next_term = abs(terms[0]), abs(terms[1])
    if value > 0 or (
        skewness > _NEGLIGIBLE_CORRECTION
        and (typical_correlation > _TYPICAL_CORRELATION_TRUSTED or next_term > _NEXT_TERM_TRUSTED * skewness)
    ):
        return "not-converged", (
            f"the correction is no small one: terms of {terms[0]:.2g} and {terms[1]:.2g} nats, from pairs with "
            f"posterior correlations of about {typical_correlation:.2f}; use smc"
        )
    return "ok", ""
