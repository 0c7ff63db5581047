"""Dependence of log P on the rounding of K, by a second estimate for correlations that differ by a few units of it."""

from __future__ import annotations

import math

import numpy as np

from nngp_prior.probability.common_random_numbers import log_ratio
from nngp_prior.probability.factored_kernel import PERTURBATION, FactoredKernel
from nngp_prior.schemas.results.estimate import Estimate, Replicates

_VISIBLE = 0.01  # nats
_HARMLESS = 1e4  # units of rounding that make K + cI well-defined


def with_rounding(found: Estimate, again: Estimate, kernel: FactoredKernel) -> Estimate:
    """Add the effect of rounding to an error bar.

    Args:
        found: the estimate.
        again: the estimate for the perturbed kernel (``kernel.perturbed``), with the same random numbers.
        kernel: kernel of ``found``.

    Returns:
        the estimate with ``rounding``, the difference that its statistical error does not explain; status ``rounding``
        if that is the larger part of the error.
    """
    difference = again.value - found.value
    effect = math.sqrt(max(difference**2 - _noise(found, again) ** 2, 0.0)) if math.isfinite(again.value) else math.inf
    statistical = found.stderr or 0.0
    update: dict[str, object] = {"rounding": effect, "diagnostics": {**found.diagnostics, "rounding": effect}}
    if found.stderr is not None:
        update["stderr"] = math.hypot(statistical, effect)
    if effect > max(statistical, _VISIBLE):
        message = (
            f"log P depends on the rounding of K: with {PERTURBATION * kernel.rounding:.1g} added to the variances of "
            f"its correlations it is {again.value:.6g}; the difference is in the error bar. Compute K in higher "
            f"precision, or pass jitter={_HARMLESS * kernel.rounding:.0e}, for which it does not (log P is then that "
            "of K + cI)"
        )
        update["message"] = "; ".join(part for part in (message, found.message) if part)
        if found.status == "ok":
            update["status"] = "rounding"
    return found.model_copy(update=update)


def _noise(found: Estimate, again: Estimate) -> float:
    """Return the statistical error of the difference of two estimates."""
    first, second = again.evidence, found.evidence
    if isinstance(first, Replicates) and isinstance(second, Replicates):
        count = min(len(first.log_estimates), len(second.log_estimates))
        return log_ratio(*(np.array(evidence.log_estimates[:count]) for evidence in (first, second)))[1]
    return math.hypot(*(evidence.stderr() if evidence else 0.0 for evidence in (first, second)))
