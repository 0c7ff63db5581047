"""log P under an estimated kernel, with both errors.

Two errors are independent: the estimator's own, and that of K̃ for K, the networks' mean kernel. The second comes from a
bootstrap over the batches of networks (Efron 1979): as many batches are drawn with replacement as there are, and log P
of the same labels is estimated under their mean kernel, with the random numbers of the estimate itself.
"""

from __future__ import annotations

import math
import time

import numpy as np
from numpy.typing import ArrayLike

from nngp_prior.kernels import MonteCarloKernel
from nngp_prior.numerics.random import generator
from nngp_prior.probability import compute, memory_needed, prepare, seconds_needed
from nngp_prior.progress import Progress, ProgressCallback, ignore, without_cost
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.results.estimate import Approximate, Estimate
from nngp_prior.schemas.specs.estimator import Estimator


def log_probability_under(
    kernel: MonteCarloKernel,
    y: ArrayLike,
    estimator: Estimator,
    bootstraps: int,
    seed: int,
    progress: ProgressCallback | None = None,
) -> Estimate:
    """Estimate log P of a labelling under K̃, with the error of K̃ in its standard error.

    The value is that of K̃, not corrected for the bias due to the nonlinearity of log P in the kernel; the bootstrap's
    estimate of it, E log P(K*) - log P(K̃), is among the diagnostics. The kernel's part of the standard error contains
    the estimator's noise that common random numbers do not cancel, and is larger for it.

    Args:
        kernel: K̃.
        y: (n,) integers -1/+1 or booleans.
        estimator: specification of the estimator.
        bootstraps: number of kernels of the bootstrap, each as much work as the estimate itself.
        seed: random seed of the estimates; the networks have their own.
        progress: called with the expected cost, and after each kernel of the bootstrap.

    Returns:
        the estimate. It has no rigorous bound, since one that held for K̃ would not hold for K.
    """
    began = time.perf_counter()
    report = progress or ignore
    n = len(kernel.K)
    seconds = (1 + bootstraps) * seconds_needed(n, estimator)
    report(Progress("bootstrap kernels", 0, bootstraps, Cost(memory_needed(n, estimator), seconds)))
    own = compute(prepare(kernel.K, estimator), y, estimator, seed, without_cost(report))
    batches = len(kernel.sums)
    values = np.empty(bootstraps if math.isfinite(own.value) else 0)
    for b in range(len(values)):
        drawn = generator(seed, "bootstrap", b).integers(batches, size=batches)
        K = kernel.weighted(np.bincount(drawn, minlength=batches))
        values[b] = compute(prepare(K, estimator), y, estimator, seed).value
        report(Progress("bootstrap kernels", b + 1, bootstraps))
    error, bias = _spread(values, own.value, batches)
    stderr = None if own.stderr is None or error is None else math.hypot(own.stderr, error)
    evidence = None
    if stderr is not None:
        freedom = min(batches, bootstraps) - 1
        evidence = Approximate(log_p=own.value, standard_error=stderr, freedom=freedom)
    return own.model_copy(
        update={
            "stderr": stderr,
            "message": "; ".join(part for part in (own.message, *_notes(kernel, values, stderr, error, bias)) if part),
            "diagnostics": {
                **own.diagnostics,
                "estimator_stderr": own.stderr,
                "kernel_stderr": error,
                "kernel_bias": bias,
                "bootstraps": len(values),
                "networks": kernel.specification.networks,
                "kernel_batches": batches,
                "kernel_rank": kernel.rank,
                "kernel_rank_limit": kernel.rank_limit,
                "kernel_condition": kernel.condition,
                "ridge": kernel.diagonal_shift,
            },
            "seconds": time.perf_counter() - began,
            "evidence": evidence,
            "diagonal_shift": own.diagonal_shift + kernel.diagonal_shift,
        }
    )


def _spread(values: np.ndarray, value: float, batches: int) -> tuple[float, float] | tuple[None, None]:
    """Return standard error and bias from the bootstrap; infinite if P was 0 under one of its kernels."""
    if len(values) == 0:
        return None, None
    if np.isneginf(values).any():
        return math.inf, -math.inf
    # The mean of a bootstrap sample of size B has (B - 1)/B of the variance of the mean of B independent values.
    return float(np.std(values, ddof=1)) * math.sqrt(batches / (batches - 1)), float(np.mean(values)) - value


def _notes(
    kernel: MonteCarloKernel, values: np.ndarray, stderr: float | None, error: float | None, bias: float | None
) -> list[str]:
    """Return messages on the error and bias of a value under K̃."""
    n, networks = len(kernel.K), kernel.specification.networks
    where = "in the standard error" if stderr is not None else "kernel_stderr in the diagnostics"
    notes = [f"K̃ is a mean over {networks} networks: its error is {where}, and no bound is rigorous"]
    if kernel.diagonal_shift:
        notes.append(f"estimate of K̃ + cI with c = {kernel.diagonal_shift:g}, the ridge")
    remedy = "use more networks, features='penultimate' or a ridge"
    if kernel.rank < n:
        notes.append(f"K̃ has rank {kernel.rank} of {n}, and almost every labelling has P = 0: {remedy}")
    if np.isneginf(values).any():
        notes.append(f"P is 0 under {np.isneginf(values).sum()} of {len(values)} bootstrap kernels: {remedy}")
    elif error is not None and bias is not None and abs(bias) > max(error, 0.1):
        notes.append(f"the bias that the bootstrap shows, {bias:.2g} nats, is more than the standard error: {remedy}")
    return notes
