"""Extreme eigenvalues by Lanczos' method."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from nngp_prior.numerics.random import generator
from nngp_prior.progress import Progress, ProgressCallback
from nngp_prior.schemas.measures.curvature import Eigenvalues
from nngp_prior.sharpness.curvature.lanczos import Lanczos
from nngp_prior.sharpness.curvature.operators import START_COST, Operator
from nngp_prior.sharpness.measures.names import check_layer, operators
from nngp_prior.sharpness.measures.registry import CHECKS, MEASURES, MeasureOutcome, Quantity
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk

_NEGLIGIBLE = 1e-6  # of the largest absolute eigenvalue: absolute accuracy of the others if the tolerance is larger

CHECKS.register(Eigenvalues)(check_layer)


@MEASURES.register(Eigenvalues)
def eigenvalues(
    risk: EmpiricalRisk, specification: Eigenvalues, seed: int, progress: ProgressCallback
) -> MeasureOutcome:
    """Compute eigenvalues at the ends of the spectrum.

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: random seed of the first vector.
        progress: called for each product.

    Returns:
        each requested eigenvalue with its residual; fewer if the matrix has fewer.
    """
    quantities, gradients = [], 0
    for name, operator in operators(risk, specification):
        found = extremes(operator, specification, seed, progress)
        gradients += found.gradients
        there = len(found.values)
        ends = [("max", there - 1 - i, i) for i in range(min(specification.largest, there))]
        ends += [("min", i, i) for i in range(min(specification.smallest, there))]
        for end, place, i in ends:
            figure = name.format(f"lambda_{end}" + (f"_{i + 1}" if i else ""))
            value, residual = float(found.values[place]), float(found.residuals[place])
            diagnostics = {"residual": residual, "steps": found.steps}
            if not math.isfinite(value) or found.converged[place]:
                quantities.append(Quantity(figure, value, diagnostics=diagnostics))
                continue
            message = (
                f"the residual is {residual:.2g} after {found.steps} steps: an eigenvalue is that near, but it may "
                "not be the last one; raise max_steps or the tolerance"
            )
            quantities.append(Quantity(figure, value, None, "not-converged", message, diagnostics))
    return MeasureOutcome(quantities, gradients)


class Extremes(NamedTuple):
    """Estimates of the ends of a spectrum by Lanczos' method.

    Attributes:
        values: Ritz values in increasing order; one NaN if a product was not finite.
        residuals: residual of each value, or an estimate if the last product is half done.
        converged: True for each value that is within the tolerance of an eigenvalue.
        steps: number of products.
        gradients: cost of the products, in gradients.
    """

    values: Float[np.ndarray, " k"]
    residuals: Float[np.ndarray, " k"]
    converged: Bool[np.ndarray, " k"]
    steps: int
    gradients: int


def extremes(operator: Operator, specification: Eigenvalues, seed: int, progress: ProgressCallback) -> Extremes:
    """Run Lanczos' method until both ends of the spectrum have converged.

    Args:
        operator: the matrix.
        specification: number of eigenvalues at each end, tolerance, maximal number of steps.
        seed: random seed of the first vector.
        progress: called for each product.

    Returns:
        the final estimates.
    """
    rng = generator(seed, "lanczos")
    lanczos = Lanczos.start_vector(operator, rng.random(operator.size, np.float32) - 0.5, rng)
    limit, look = min(specification.max_steps, operator.size), 2
    while True:
        progress(Progress("Lanczos steps", lanczos.steps, limit))
        if lanczos.steps < min(look, limit) and lanczos.finite:
            lanczos.step()
            continue
        last = lanczos.steps >= limit or not lanczos.finite
        look = lanczos.steps + 1 + lanczos.steps // 10
        found, done = _state(lanczos, specification)
        if not done:
            lanczos.complete()  # the next step would do this
            found, done = _state(lanczos, specification)
        if done or last:
            break
    progress(Progress("Lanczos steps", limit, limit))
    return found._replace(gradients=START_COST + found.gradients)


def _state(lanczos: Lanczos, specification: Eigenvalues) -> tuple[Extremes, bool]:
    """Current estimates, and True if all requested eigenvalues have converged."""
    values, residuals = lanczos.ritz()
    sizes, tolerance = np.abs(values), specification.tolerance
    converged = residuals <= np.maximum(tolerance * sizes, min(tolerance, _NEGLIGIBLE) * sizes.max())
    k, upper, lower = len(values), specification.largest, specification.smallest
    done = k >= upper + lower and converged[k - upper :].all() and converged[:lower].all()
    return Extremes(values, residuals, converged, lanczos.steps, lanczos.gradients), bool(done)
