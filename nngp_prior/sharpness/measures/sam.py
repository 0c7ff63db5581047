r"""Rise of the loss in a ball around the parameters, as defined by sharpness-aware minimisation.

.. math:: \max_{‖u‖ ≤ 1} L(w + ρ T u) - L(w), \qquad \text{one step: } u = T g / ‖T g‖

T is 1 (SAM), |w| + η (ASAM), or the Fisher information's diagonal to the power of -1/2 (Fisher-SAM).
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from nngp_prior.errors import InvalidInput
from nngp_prior.numerics.random import generator
from nngp_prior.progress import Progress, ProgressCallback
from nngp_prior.schemas.measures.neighbourhoods import ASAMSharpness, FisherSAMSharpness, SAMSharpness
from nngp_prior.sharpness.measures.projected_ascent import BALL, NORMALIZED, averaged, climb, normalized_loss
from nngp_prior.sharpness.measures.registry import CHECKS, MEASURES, MeasureOutcome, Quantity
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.losses import curvature, squared_slope
from nngp_prior.sharpness.risk.minibatches import minibatch
from nngp_prior.sharpness.risk.networks import high_precision


def check(risk: EmpiricalRisk, specification: SAMSharpness | ASAMSharpness | FisherSAMSharpness) -> None:
    """Raise an error for minibatches larger than the data, and for normalisation of single or of C outputs.

    Args:
        risk: network, loss and data.
        specification: options of the measure.

    Raises:
        InvalidInput: in these cases.
    """
    m = specification.minibatch
    if m is not None and m > risk.n:
        raise InvalidInput("minibatch", f"got {m} where there are {risk.n} examples", f"Pass at most {risk.n}.")
    if specification.normalize_logits and risk.classes is not None:
        message = f"is of networks with one output, and there are {risk.classes}"
        raise InvalidInput("normalize_logits", message, "Leave it out, and compare networks at equal loss.")
    if specification.normalize_logits and (m or risk.n) == 1:
        message = "of a single output would leave nothing but its sign"
        raise InvalidInput("normalize_logits", message, "Take more examples, or a larger minibatch.")


for _specification in (SAMSharpness, ASAMSharpness, FisherSAMSharpness):
    CHECKS.register(_specification)(check)


@MEASURES.register(SAMSharpness)
def sam_sharpness(
    risk: EmpiricalRisk, specification: SAMSharpness, seed: int, progress: ProgressCallback
) -> MeasureOutcome:
    """Compute the rise of the loss in a ball.

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: random seed of minibatches.
        progress: called for each partition into minibatches.

    Returns:
        one quantity.
    """
    return _of_axes(risk, specification, np.ones(risk.size), 0.0, seed, progress)


@MEASURES.register(ASAMSharpness)
def asam_sharpness(
    risk: EmpiricalRisk, specification: ASAMSharpness, seed: int, progress: ProgressCallback
) -> MeasureOutcome:
    """Compute the rise of the loss in an ellipsoid with axes proportional to the absolute parameters.

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: random seed of minibatches.
        progress: called for each partition into minibatches.

    Returns:
        one quantity.
    """
    T = np.abs(np.asarray(risk.theta)) + specification.eta
    for block in risk.blocks:
        if block.role == "bias" and not specification.biases:
            T[block.start : block.stop] = 1
    return _of_axes(risk, specification, T, 0.0, seed, progress)


@MEASURES.register(FisherSAMSharpness)
def fisher_sam_sharpness(
    risk: EmpiricalRisk, specification: FisherSAMSharpness, seed: int, progress: ProgressCallback
) -> MeasureOutcome:
    """Compute the rise of the loss in an ellipsoid of the Fisher information's diagonal.

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: random seed of minibatches.
        progress: called for each partition into minibatches.

    Returns:
        one quantity.
    """
    with high_precision():
        F = np.asarray(_diagonal(risk, specification.fisher)) + specification.damping
    # T = (F + δ)^(-1/2), and 0 if no example's gradient depends on the parameter
    T = np.where(F > 0, 1 / np.sqrt(np.where(F > 0, F, 1)), 0)
    return _of_axes(risk, specification, T, 1.0, seed, progress)


@jax.jit(static_argnames="fisher")
def _diagonal(risk: EmpiricalRisk, fisher: str) -> Array:
    factor = squared_slope if fisher == "empirical" else curvature

    def of_example(gradient: Array, f: Array, y: Array) -> Array:
        factors = factor(risk.output_loss, f[None], y[None])[0]
        return factors * gradient**2 if risk.classes is None else jnp.sum(gradient * (factors @ gradient), axis=0)

    return risk.mean_over_gradients(of_example, risk.theta)


@jax.jit(static_argnames=("steps", "normalized"))
def _climbs(risk: EmpiricalRisk, axes: Array, rows: Array, steps: int, normalized: bool) -> tuple[Array, Array]:
    """Losses of an ascent in the ellipsoid, for each minibatch, and the size of its first gradient."""

    def one(part: EmpiricalRisk) -> tuple[Array, Array]:
        def loss(u: Array) -> tuple[Array, Array]:
            theta = risk.theta + axes * u
            if normalized:
                value, g = jax.value_and_grad(lambda theta: normalized_loss(part, theta))(theta)
            else:
                value, g = part.value_and_gradient(theta)
            return value, axes * g

        found = climb(loss, jnp.zeros_like(axes), BALL, steps)
        return found.losses, found.slope

    if rows.shape[1] == risk.n:
        losses, slope = one(risk)
        return losses[None], slope[None]
    return lax.map(lambda each: one(minibatch(risk, each)), rows)


def _of_axes(
    risk: EmpiricalRisk,
    specification: SAMSharpness | ASAMSharpness | FisherSAMSharpness,
    T: Float[np.ndarray, " P"],
    gradients: float,
    seed: int,
    progress: ProgressCallback,
) -> MeasureOutcome:
    """The measure in the ellipsoid with half-axes ρ T; ``gradients`` is the cost of T."""
    m, one_step = specification.minibatch or risk.n, specification.method == "one-step"
    steps = 1 if one_step else specification.steps
    partitions = 1 if m in (1, risk.n) else specification.partitions
    means, flat = [], []
    for i in range(partitions):
        order = generator(seed, "partition", i).permutation(risk.n)[: risk.n // m * m]
        with high_precision():
            axes, rows = jnp.asarray(specification.rho * T, risk.dtype), jnp.asarray(order.reshape(-1, m))
            found = _climbs(risk, axes, rows, steps, specification.normalize_logits)
        losses, slopes = map(np.asarray, found)
        reached = losses[:, 1] if one_step else losses.max(axis=1)
        means.append(float(np.mean(reached - losses[:, 0])))
        flat.append(float(np.mean(slopes == 0)))
        progress(Progress("partitions", i + 1, partitions))
    name = ("normalized_" if specification.normalize_logits else "") + ("m_" if specification.minibatch else "")
    name += specification.kind.replace("-", "_")
    cost = (1 + steps) * (NORMALIZED if specification.normalize_logits else 1)
    gradients += partitions * cost * (risk.n // m * m) / risk.n
    value, stderr = averaged(means)
    diagnostics = {"zero_gradients": float(np.mean(flat))}
    if specification.normalize_logits and not np.any(np.asarray(risk.all_outputs(risk.theta))):
        message = "all outputs are zero, and cannot be normalised"
        return MeasureOutcome([Quantity(name, math.nan, None, "degenerate", message, diagnostics)], gradients)
    if min(flat) == 1:
        message = "the gradient is zero within the ellipsoid's axes: there is no direction to go in"
        return MeasureOutcome([Quantity(name, 0.0, None, "zero-gradient", message, diagnostics)], gradients)
    return MeasureOutcome([Quantity(name, value, stderr, diagnostics=diagnostics)], gradients)
