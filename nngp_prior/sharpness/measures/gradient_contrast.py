r"""Gradient contrast: possible gain on one minibatch after a step on another (Huszár, inference.vc, January 2018).

Minimise L₁, the loss of one minibatch, in a ball around θ; the contrast is the distance of L₂, the loss of another
minibatch, from its own minimum in the ball. In a ball ‖δ‖ ≤ ε, to first order, δ = -ε g₁/‖g₁‖ and the minimum of L₂ is
L₂ - ε ‖g₂‖:

.. math:: R = \lim_{ε → 0} \frac{L_2(θ + δ_1) - \min_δ L_2(θ + δ)}{ε} = ‖g_2‖ (1 - \cos(g_1, g_2)) .
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Integer

from nngp_prior.progress import Progress, ProgressCallback
from nngp_prior.schemas.measures.gradients import GradientContrast
from nngp_prior.schemas.statistics import mean_with_error
from nngp_prior.sharpness.measures.registry import CHECKS, MEASURES, MeasureOutcome, Quantity
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.minibatches import (
    Pair,
    check_pairs,
    minibatch_gradients,
    pair_of,
    pairs_of_minibatches,
    scaled,
)
from nngp_prior.sharpness.risk.networks import high_precision


@CHECKS.register(GradientContrast)
def _check(risk: EmpiricalRisk, specification: GradientContrast) -> None:
    check_pairs(risk.n, specification.batch)


@jax.jit
def _inner_products(risk: EmpiricalRisk, pair: Array) -> tuple[Array, Array]:
    """Inner products of the scaled gradients of two minibatches, and their scales."""
    G, scales = jax.vmap(scaled)(minibatch_gradients(risk, pair))
    return G @ G.T, scales


@MEASURES.register(GradientContrast)
def gradient_contrast(
    risk: EmpiricalRisk, specification: GradientContrast, seed: int, progress: ProgressCallback
) -> MeasureOutcome:
    """Compute E ‖g₂‖ (1 - cos(g₁, g₂)), E ‖g‖ and E (1 - cos(g₁, g₂)).

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: random seed of the minibatches.
        progress: called for each pair.

    Returns:
        three quantities, with standard errors over the pairs drawn.
    """
    found = []
    for rows in pairs_of_minibatches(np.arange(risk.n), specification.batch, specification.pairs, seed):
        found.append(euclidean(risk, rows))
        progress(Progress("pairs", len(found), specification.pairs))
    names = ("gradient_contrast", "minibatch_gradient_norm", "gradient_disagreement")
    return MeasureOutcome(figures(found, names), cost_of_pairs(risk, specification.batch, specification.pairs))


def euclidean(risk: EmpiricalRisk, rows: Integer[np.ndarray, "2 batch"]) -> Pair:
    """Compute the lengths of the gradients of two minibatches and the cosine between them.

    Args:
        risk: risk on all examples.
        rows: rows of the two minibatches.

    Returns:
        lengths and cosine.
    """
    with high_precision():
        inner, scales = _inner_products(risk, jnp.asarray(rows))
    return pair_of(np.asarray(inner, np.float64), (float(scales[0]), float(scales[1])))


def cost_of_pairs(risk: EmpiricalRisk, batch: int, pairs: int) -> float:
    """Cost of the gradients of pairs of minibatches, in gradients of the whole data set."""
    return 2 * batch * pairs / risk.n


def figures(pairs: list[Pair], names: tuple[str, str, str]) -> list[Quantity]:
    """Compute means over pairs of minibatches.

    Args:
        pairs: lengths and cosine of each pair.
        names: names of the contrast, of the mean length of gradients, and of the mean of 1 - cos.

    Returns:
        the three quantities, with standard errors.
    """
    values = ([pair.contrast for pair in pairs], [sum(pair.norms) / 2 for pair in pairs], [1 - p.cosine for p in pairs])
    zeros = sum(norm == 0 for pair in pairs for norm in pair.norms)
    quantities = []
    for name, of_pairs in zip(names, values, strict=True):
        mean, stderr = mean_with_error(of_pairs)
        if not zeros:
            quantities.append(Quantity(name, mean, stderr))
            continue
        message = f"{zeros} of {2 * len(pairs)} minibatches have a zero gradient, whose cosine is taken to be 0"
        if zeros == 2 * len(pairs) and name == names[2]:
            mean = stderr = math.nan
            message = "the gradients of all minibatches are zero: there is no angle between them"
        quantities.append(Quantity(name, mean, stderr, "zero-gradient", message, {"zero_gradients": zeros}))
    return quantities
