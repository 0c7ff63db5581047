r"""Contrastive flatness: how much sharper the losses of minibatches are than their mean.

.. math:: \frac1m \sum_b S(L_b) - S(L), \qquad \frac1m \sum_b S(L_b) / S(L), \qquad L = \frac1n \sum_i \ell_i

A ratio of two figures of one network, for which Huszár asks (inference.vc, January 2018): units of θ are gone from it.
What is linear in the loss, as the trace of the Hessian is, has a difference of 0 over minibatches of equal size that
make up all of the data. A convex S, as λ_max is, has none below 0.
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
    """The examples of each minibatch.

    Args:
        n: examples that there are.
        specification: says how many.
        seed: of the choice.

    Returns:
        rows, without repetition within a minibatch.
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
    """The difference and the ratio, of each figure of the other measure.

    Args:
        risk: network, loss, data.
        specification: options.
        seed: of the minibatches, and of the other measure, the same for each of them.
        progress: told of each minibatch.

    Returns:
        ``contrastive_…`` and ``contrastive_…_ratio`` for each figure. The standard error is that of the minibatches, as
        if they were independent (those of one partition are not: it is too large for them, if anything), and of the
        figures' own, as if errors of S(L_b) and S(L) were of the worst sign.
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
        # A figure that only some have, as a further eigenvalue of a matrix that is large enough, has no mean.
        if len(found[quantity.name]) == len(chosen):
            quantities += _contrasts(quantity, found[quantity.name])
    return MeasureOutcome(quantities, gradients)


def _contrasts(whole: Quantity, parts: list[Quantity]) -> list[Quantity]:
    """Difference and ratio of one figure."""
    values = np.array([part.value for part in parts])
    mean, spread = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
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
