"""Dependence of log P on the rounding of K, by a second estimate for correlations that differ by a few units of it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from nngp_prior.probability.common_random_numbers import log_ratio
from nngp_prior.probability.factored_kernel import HARMLESS, PERTURBATION, FactoredKernel
from nngp_prior.schemas.results.estimate import Estimate, Replicates

_VISIBLE = 0.01  # nats


def with_rounding(found: Estimate, kernel: FactoredKernel, estimate: Callable[[FactoredKernel], Estimate]) -> Estimate:
    """Add the effect of the rounding of K to an error bar, from an estimate for a perturbed kernel.

    Args:
        found: the estimate for ``kernel``.
        kernel: its kernel.
        estimate: function that returns the estimate for another kernel, with the same random numbers.

    Returns:
        the estimate, unchanged if rounding cannot matter; else with ``rounding``, the difference that its statistical
        error does not explain; status ``rounding`` if that is the larger part of the error, or if the estimate is -inf
        and that of the perturbed kernel is not.
    """
    if not kernel.rounding_matters:
        return found
    units = PERTURBATION if math.isfinite(found.value) else HARMLESS
    again, shift = estimate(kernel.perturbed(units)), units * kernel.rounding
    if not math.isfinite(found.value):
        return _resolved(found, again, shift) if math.isfinite(again.value) else found
    difference = again.value - found.value
    effect = math.sqrt(max(difference**2 - _noise(found, again) ** 2, 0.0)) if math.isfinite(again.value) else math.inf
    statistical = found.stderr or 0.0
    update: dict[str, object] = {"rounding": effect, "diagnostics": {**found.diagnostics, "rounding": effect}}
    if found.stderr is not None:
        update["stderr"] = math.hypot(statistical, effect)
    if effect > max(statistical, _VISIBLE):
        message = (
            f"log P depends on the rounding of K: with {shift:.1g} added to the variances of its correlations it is "
            f"{again.value:.6g}; the difference is in the error bar. {_remedy(HARMLESS * kernel.rounding)}"
        )
        update["message"] = "; ".join(part for part in (message, found.message) if part)
        if found.status == "ok":
            update["status"] = "rounding"
    return found.model_copy(update=update)


def _resolved(found: Estimate, again: Estimate, shift: float) -> Estimate:
    """Say what an estimate of -inf is for a kernel that rounding does not affect."""
    message = (
        "labels of inputs that others determine up to the rounding of K are wrong for all particles: P is 0 if K is "
        f"exact, but with {shift:.1g} added to the variances of its correlations log P is {again.value:.6g}. "
        f"{_remedy(shift)}"
    )
    diagnostics = {**found.diagnostics, "rounding": math.inf}
    return found.model_copy(
        update={"status": "rounding", "message": message, "rounding": math.inf, "diagnostics": diagnostics}
    )


def _remedy(jitter: float) -> str:
    return (
        f"Compute K in higher precision, or pass jitter={jitter:.0e}, for which log P does not depend on it (it is "
        "then that of K + cI)"
    )


def _noise(found: Estimate, again: Estimate) -> float:
    """Return the statistical error of the difference of two estimates."""
    first, second = again.evidence, found.evidence
    if isinstance(first, Replicates) and isinstance(second, Replicates):
        count = min(len(first.log_estimates), len(second.log_estimates))
        return log_ratio(*(np.array(evidence.log_estimates[:count]) for evidence in (first, second)))[1]
    return math.hypot(*(evidence.stderr() if evidence else 0.0 for evidence in (first, second)))
