r"""Expectation propagation for Gaussian orthant probabilities, block-sequential.

Each constraint g_i > 0 is approximated by a Gaussian site t_i(g) = exp(-½ s_i g² + ν_i g). With the cavity τ₋ =
1/Σ_ii - s_i, ν₋ = μ_i/Σ_ii - ν_i and z = ν₋/√τ₋, matching moments gives (Rasmussen & Williams 2006, sec. 3.6;
Cunningham, Hennig, Lacoste-Julien 2011, with h, r, V, D of :mod:`nngp_prior.numerics.gaussian`)

.. math:: s = τ₋ r/V, \qquad ν = \sqrt{τ₋}\, h D/V .

Updating all sites at once oscillates on the simple labellings that matter most; one after another is stable but n
rank-one updates of an n × n matrix. Here blocks of sites are updated one after another on a small copy, and a block's
total change goes to the whole matrix as one symmetric rank-b product: stable, and n³ operations a sweep at the speed
of matrix products.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from scipy.linalg import get_lapack_funcs
from scipy.special import log_ndtr

from nngp_prior.numerics.gaussian import half_line_moments
from nngp_prior.numerics.linalg import matrix_vector, subtract_congruence, symmetric_columns
from nngp_prior.probability.prepared import PreparedKernel
from nngp_prior.probability.registry import ESTIMATORS
from nngp_prior.progress import Progress, ProgressCallback
from nngp_prior.schemas.estimate import Estimate
from nngp_prior.schemas.estimator import EP, SMC

BLOCK = 128
# Where the float32 sweeps' means differ from those of the sites in float64 by more, float32 was not enough.
_DRIFT_ALLOWED = 0.02


@dataclass(frozen=True)
class Sites:
    """Gaussian factors exp(-½ s g² + ν g), one an input."""

    precision: Float[np.ndarray, " m"]
    shift: Float[np.ndarray, " m"]


@dataclass(frozen=True)
class EPResult:
    """Sites at the end of EP, and the Gaussian they make of the prior, in float64.

    Attributes:
        sites: s and ν.
        L: lower trapezoidal factor of diag(y) Σ diag(y), as the prepared kernel's is of the correlations.
        mean: μ.
        log_z: EP's approximation of log P, as exact as ``L`` is.
        sweeps: how many were made.
        converged: whether the last one changed less than the tolerance, and rounding did not spoil the sweeps.
        change: what the last one changed, in standard deviations.
        drift: how far the sweeps' means are from those that their sites have, in standard deviations.
        precision: the floating point type of the sweeps that counted.
    """

    sites: Sites
    L: Float[Any, "m rank"]
    mean: Float[np.ndarray, " m"]
    log_z: float
    sweeps: int
    converged: bool
    change: float
    drift: float
    precision: str


def expectation_propagation(
    kernel: PreparedKernel,
    labels: Float[np.ndarray, " m"],
    parameters: EP | SMC,
    progress: ProgressCallback,
    dtype: type[np.floating] = np.float64,
) -> EPResult:
    """Run EP until it converges or ``max_sweeps`` are made; in float64 where float32 turns out not to be enough.

    Args:
        kernel: a prepared kernel.
        labels: ±1 for the inputs kept, in the order of visits.
        parameters: precision, tolerance and the largest number of sweeps.
        progress: told of each sweep.
        dtype: of the Gaussian that the sites make of the prior.

    Returns:
        the sites and what follows from them; ``log_z`` is NaN only if float64 failed too.
    """
    result = None
    for precision in dict.fromkeys((parameters.precision, "float64")):
        state = _start(kernel, labels, np.dtype(precision))
        sweeps, change = _sweep_until_converged(state, parameters, progress)
        sites, swept_mean = Sites(state.precision, state.shift), state.mean
        del state
        L, log_determinant = kernel.algebra.posterior_factor(
            kernel.L, sites.precision, np.float64 if precision == "float64" else dtype
        )
        mean = labels * kernel.algebra.covariance_vector(L, labels * sites.shift)
        variance = kernel.algebra.row_squares(L)
        log_z = log_normaliser(variance, mean, log_determinant, sites)
        drift = float(np.max(np.abs(swept_mean - mean) / np.sqrt(variance)))
        sound = bool(np.isfinite(log_z)) and drift < _DRIFT_ALLOWED
        converged = sound and change < parameters.tolerance
        result = EPResult(sites, L, mean, log_z, sweeps, converged, change, drift, precision)
        if sound:
            break
    assert result is not None
    return result


def log_normaliser(
    variance: Float[np.ndarray, " m"], mean: Float[np.ndarray, " m"], log_determinant: float, sites: Sites
) -> float:
    r"""EP's log Z for given sites, in nats.

    .. math:: \sum_i \log Φ(z_i) + ½ \sum_i \log(1 + s_i/τ₋_i)
        - ½ \sum_i \Big[\frac{(ν₋_i + ν_i)^2}{τ₋_i + s_i} - \frac{ν₋_i^2}{τ₋_i}\Big] - ½ \log|B| + ½ ν^T μ

    It is stationary in the sites at a fixed point: an error of 1e-4 there is one of about 1e-8 here.

    Args:
        variance: the diagonal of Σ.
        mean: μ.
        log_determinant: log |B|, B = I + S½ K' S½.
        sites: s and ν.

    Returns:
        log Z; NaN if a cavity is improper.
    """
    s, nu = sites.precision, sites.shift
    with np.errstate(invalid="ignore", divide="ignore"):
        tau = 1 / variance - s
        nu_cavity = mean / variance - nu
        terms = (
            log_ndtr(nu_cavity / np.sqrt(tau))
            + 0.5 * np.log1p(s / tau)
            - 0.5 * ((nu_cavity + nu) ** 2 / (tau + s) - nu_cavity**2 / tau)
        )
        return float(terms.sum() - 0.5 * log_determinant + 0.5 * nu @ mean)


@runtime_checkable
class Sweeps(Protocol):
    """The state of EP between sweeps."""

    @property
    def precision(self) -> np.ndarray:
        """The sites' s."""
        ...

    @property
    def shift(self) -> np.ndarray:
        """The sites' ν."""
        ...

    @property
    def mean(self) -> np.ndarray:
        """μ, as the sweeps have it."""
        ...

    def sweep(self) -> float:
        """One sweep over all blocks; gives the largest change of a site, as :func:`_sequential_ep` measures it."""
        ...


class HostSweeps:
    """EP on the host; Sigma (lower triangle) is K' at first and overwritten."""

    def __init__(self, Sigma: Float[np.ndarray, "m m"]) -> None:
        self.Sigma = Sigma
        self.precision, self.shift, self.mean = np.zeros((3, len(Sigma)))

    def sweep(self) -> float:
        """As the protocol says."""
        m, change = len(self.Sigma), 0.0
        for start in range(0, m, BLOCK):
            stop = min(start + BLOCK, m)
            block_change = _update_block(self.Sigma, self.mean, self.precision, self.shift, start, stop)
            change = max(change, block_change)
        return change


def _start(kernel: PreparedKernel, labels: np.ndarray, dtype: np.dtype) -> Sweeps:
    """The state before the first sweep, where the kernel's matrices are."""
    Sigma = kernel.signed_correlation(labels, dtype)
    if not kernel.algebra.on_device:
        return HostSweeps(Sigma)
    from nngp_prior.probability.device_ep import DeviceSweeps

    return DeviceSweeps(Sigma, BLOCK)


def _sweep_until_converged(state: Sweeps, parameters: EP | SMC, progress: ProgressCallback) -> tuple[int, float]:
    """How many sweeps were made, and what the last one changed."""
    change = math.inf
    sweep = 0
    while sweep < parameters.max_sweeps and change >= parameters.tolerance:
        change = state.sweep()
        sweep += 1
        if not np.isfinite(change):
            break
        last = change < parameters.tolerance or sweep == parameters.max_sweeps
        progress(Progress("EP sweeps", sweep, sweep if last else sweep + 1))
    return sweep, change


def _update_block(Sigma: np.ndarray, mean: np.ndarray, s: np.ndarray, nu: np.ndarray, start: int, stop: int) -> float:
    r"""Sequential EP inside one block, then its total change to everything; all arguments change in place.

    With ΔS, Δν the changes of the block's sites, u the block's new mean and I the block:

    .. math:: M = ΔS (I + Σ_{II} ΔS)^{-1}, \qquad μ \mathrel{+}= Σ_{:,I} (Δν - ΔS u), \qquad
        Σ \mathrel{-}= Σ_{:,I} M Σ_{I,:}

    Returns:
        the largest change of a site, as :func:`_sequential_ep` measures it.
    """
    block = slice(start, stop)
    columns = symmetric_columns(Sigma, start, stop)
    Sigma_II = columns[block].astype(np.float64)
    s_before, nu_before = s[block].copy(), nu[block].copy()
    change = _sequential_ep(Sigma_II, mean[block], s[block], nu[block])
    delta_s, delta_nu = s[block] - s_before, nu[block] - nu_before
    system = np.eye(stop - start) + Sigma_II * delta_s
    # One factorisation for both: (I + Σ ΔS)⁻¹ [μ + Σ Δν, I].
    right_hand_sides = np.column_stack([mean[block] + Sigma_II @ delta_nu, np.eye(stop - start)])
    (gesv,) = get_lapack_funcs(("gesv",), dtype=system.dtype)
    solution = gesv(system, right_hand_sides)[2]
    u, M = solution[:, 0], delta_s[:, None] * solution[:, 1:]
    mean += matrix_vector(columns, delta_nu - delta_s * u)
    subtract_congruence(Sigma, columns, (M + M.T) / 2)
    return change


def _sequential_ep(Sigma: np.ndarray, mean: np.ndarray, s: np.ndarray, nu: np.ndarray) -> float:
    """One sweep of exact sequential EP over a small matrix; s and nu change in place.

    Rank-one updates are not carried out on Sigma but kept, C diag(c) Cᵀ, and applied to the one column that comes next.

    Returns:
        the largest change of a site, as the change it makes to its marginal: of the mean in standard deviations, or
        of the variance as a fraction. Infinite if a number was not finite.
    """
    b = len(mean)
    mean = mean.copy()
    C, c = np.zeros((b, b)), np.zeros(b)
    largest = 0.0
    for k in range(b):
        column = Sigma[:, k] - C[:, :k] @ (c[:k] * C[k, :k])
        variance = float(column[k])
        if not variance > 0:
            if math.isnan(variance):
                return math.inf
            continue
        marginal_mean, old_s, old_nu = float(mean[k]), float(s[k]), float(nu[k])
        tau = 1 / variance - old_s
        if not tau > 0:
            continue
        root = math.sqrt(tau)
        h, r, V, D = half_line_moments((marginal_mean / variance - old_nu) / root)
        s[k] = tau * r / V
        nu[k] = root * h * D / V
        delta_s, delta_nu = float(s[k]) - old_s, float(nu[k]) - old_nu
        weight = delta_s / (1 + delta_s * variance)
        gain = (delta_nu - delta_s * marginal_mean) / (1 + delta_s * variance)
        mean += column * gain
        C[:, k] = column
        c[k] = weight
        largest = max(largest, abs(gain) * math.sqrt(variance), abs(weight) * variance)
    return largest


@ESTIMATORS.register(EP)
def estimate_ep(
    kernel: PreparedKernel, labels: np.ndarray, parameters: EP, seed: int, progress: ProgressCallback
) -> Estimate:
    """EP's log Z as an estimate of log P. It has no error statement."""
    del seed
    began = time.perf_counter()
    result = expectation_propagation(kernel, labels, parameters, progress)
    message = kernel.note()
    status = "ok"
    if not np.isfinite(result.log_z):
        status = "numerical-failure"
        message = "a cavity variance is not positive; pass jitter=1e-8, or use smc"
    elif not result.drift < _DRIFT_ALLOWED:
        status = "not-converged"
        message = (
            f"rounding spoilt the sweeps (means off by {result.drift:.1g} standard deviations): K is nearly singular; "
            "pass jitter, or use smc and heed its status"
        )
    elif not result.converged:
        status = "not-converged"
        message = (
            f"the last of {result.sweeps} sweeps moved a mean by {result.change:.1g} standard deviations; "
            "raise max_sweeps"
        )
    return Estimate(
        value=result.log_z if np.isfinite(result.log_z) else -math.inf,
        stderr=None,
        n=kernel.n,
        method="ep",
        status=status,
        message=message,
        diagnostics=ep_diagnostics(kernel, result),
        seconds=time.perf_counter() - began,
    )


def ep_diagnostics(kernel: PreparedKernel, result: EPResult) -> dict[str, float | int | str]:
    """What is worth knowing of an EP run."""
    return {
        "log_z_ep": result.log_z,
        "ep_sweeps": result.sweeps,
        "ep_change": result.change,
        "ep_drift": result.drift,
        "ep_precision": result.precision,
        "distinct_inputs": kernel.m,
        "rank": kernel.rank,
        "smallest_conditional_variance": kernel.smallest_conditional_variance,
    }
