r"""Contrastive flatness: sharpness of the losses of minibatches relative to the sharpness of their mean.

.. math:: \frac1m \sum_b S(L_b) - S(L), \qquad \frac1m \sum_b S(L_b) / S(L), \qquad L = \frac1n \sum_i \ell_i

The ratio of two quantities of one network, as Huszár requires (inference.vc, January 2018), does not depend on the
units of θ. For an S that is linear in the loss, such as the trace of the Hessian, the difference is 0 over minibatches
of equal size that make up all of the data; for a convex S, such as λ_max, it is not negative.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Integer

from nngp_prior.errors import InvalidInput
from nngp_prior.numerics.random import generator
from nngp_prior.progress import Progress, ProgressCallback, ignore
from nngp_prior.schemas.measures.registry import ContrastiveFlatness
from nngp_prior.schemas.statistics import mean_with_error
from nngp_prior.sharpness.measures.registry import CHECKS, MEASURES, MeasureOutcome, Quantity
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk


@CHECKS.register(ContrastiveFlatness)
def _check(risk: EmpiricalRisk, specification: ContrastiveFlatness) -> None:
    batch, n = specification.batch, risk.n
    if batch > n:
        raise InvalidInput("batch", f"got {batch} where there are {n} examples", f"Take at most {n}.")
    if specification.batches == "partition" and 2 * batch > n:
        trouble = f"got {batch}, which cuts {n} examples into no two minibatches"
        remedy = f"Take at most {n // 2}." if n > 1 else "Take more data."
        raise InvalidInput("batch", trouble, remedy)
    if type(specification.of) in CHECKS:
        CHECKS[specification.of](risk.subset(range(batch)), specification.of)


def minibatches(n: int, specification: ContrastiveFlatness, seed: int) -> list[Integer[np.ndarray, " batch"]]:
    """Draw the examples of each minibatch.

    Args:
        n: number of examples.
        specification: options, with the number of minibatches.
        seed: random seed.

    Returns:
        rows of the examples of each minibatch, without repetition within a minibatch.
    """
    batch = specification.batch
    if specification.batches == "partition":
        order = generator(seed, "partition").permutation(n)
        return list(order[: n // batch * batch].reshape(-1, batch))
    return [generator(seed, "minibatch", i).choice(n, batch, replace=False) for i in range(specification.batches)]


@MEASURES.register(ContrastiveFlatness)
def contrastive_flatness(
    risk: EmpiricalRisk, specification: ContrastiveFlatness, seed: int, progress: ProgressCallback
) -> MeasureOutcome:
    """Compute the difference and the ratio for each quantity of the other measure.

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: random seed of the minibatches and of the other measure, the same for each of them.
        progress: called for each minibatch.

    Returns:
        ``contrastive_…`` and ``contrastive_…_ratio`` for each quantity. The standard error combines the variation over
        minibatches, treated as independent (for those of one partition it is if anything too large), and the standard
        errors of the quantities, as if errors of S(L_b) and S(L) had the worst signs.
    """
    own = MEASURES[specification.of]
    own_seed = int(generator(seed, specification.of.kind).integers(2**63))
    whole = own(risk, specification.of, own_seed, ignore)
    chosen = minibatches(risk.n, specification, seed)
    found: dict[str, list[Quantity]] = {quantity.name: [] for quantity in whole.quantities}
    gradients = whole.gradients
    for i, rows in enumerate(chosen):
        outcome = own(risk.subset(rows), specification.of, own_seed, ignore)
        gradients += outcome.gradients * len(rows) / risk.n
        for quantity in outcome.quantities:
            if quantity.name in found:
                found[quantity.name].append(quantity)
        progress(Progress("minibatches", i + 1, len(chosen)))
    quantities = []
    for quantity in whole.quantities:
        # A quantity that only some minibatches have, such as a further eigenvalue of a large enough matrix, has no
        # mean.
        if len(found[quantity.name]) == len(chosen):
            quantities += _contrasts(quantity, found[quantity.name])
    return MeasureOutcome(quantities, gradients)


def _contrasts(whole: Quantity, parts: list[Quantity]) -> list[Quantity]:
    """Difference and ratio of one quantity."""
    values = np.array([part.value for part in parts])
    mean, spread = mean_with_error(values)
    of_whole = whole.stderr or 0.0
    of_parts = float(np.mean([part.stderr or 0.0 for part in parts]))
    error = math.hypot(spread, of_whole + of_parts)
    diagnostics: dict[str, Any] = {"mean": mean, "whole": whole.value, "minibatches": len(parts)}
    name, status, message = f"contrastive_{whole.name}", whole.status, whole.message
    troubled = [part for part in parts if part.status != "ok"]
    if status == "ok" and troubled:
        status = troubled[0].status
        message = f"{len(troubled)} of {len(parts)} minibatches: {troubled[0].message}"
    difference = Quantity(name, mean - whole.value, error, status, message, diagnostics)
    if whole.value == 0:
        message = f"{whole.name} of the mean loss is 0"
        return [difference, Quantity(f"{name}_ratio", math.nan, None, "degenerate", message, diagnostics)]
    # ρ = m/w: δρ = (δm - ρ δw)/w
    ratio = mean / whole.value
    error = math.hypot(spread, of_parts + abs(ratio) * of_whole) / abs(whole.value)
    return [difference, Quantity(f"{name}_ratio", ratio, error, status, message, diagnostics)]
