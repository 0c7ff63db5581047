r"""Regret of natural-gradient contrast in a ball of the Kullback-Leibler divergence with a finite radius.

.. math:: R_ε = \frac{L_2(θ + δ_1) - \min_{C(δ) ≤ ε^2} L_2(θ + δ)}{ε}, \qquad
    C(δ) = \frac2N \sum_k \mathrm{KL}(p_{θ,k} ‖ p_{θ+δ,k}) + λ\, δ^T D δ

p_{θ,k} is the model's distribution of the label of input k: +1 and -1 with probabilities σ(±f) for the cross-entropy,
N(f, 1/2) for the squared error. Both divergences are exact: with Δ the change of f, and p = σ(f),

.. math:: \mathrm{KL} = \log(1 - p + p e^Δ) - p Δ, \qquad \mathrm{KL} = Δ^2 .

To second order C = δᵀ(F + λD)δ, hence R_ε tends to the quantity in ``natural_gradient_contrast.py``.

The ball is the image of a Euclidean ball, ‖u‖ ≤ ε, in which ``contrast_regret.py`` minimises: δ = ρ B u with B Bᵀ = (F
+ λD)⁻¹, F at θ, and the ρ > 0 with C(ρ B u) = ‖u‖², so that ρ = 1 to first order. If C decreases along a ray before it
reaches ε², the ball ends there: it is the part that is visible from θ. B is computed in parameters scaled to diag F =
1, hence rescaling of layers and nodes changes no step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Integer

from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.measures.gradients import NaturalContrastRegret
from nngp_prior.sharpness.measures.contrast_regret import Loss, both_regrets, mean_regret
from nngp_prior.sharpness.measures.natural_gradient_contrast import Metric, check, judged, metric, pair_in, parts
from nngp_prior.sharpness.measures.projected_ascent import FORWARD
from nngp_prior.sharpness.measures.registry import CHECKS, MEASURES, MeasureOutcome
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.minibatches import Pair, minibatch, pairs_of_minibatches
from nngp_prior.sharpness.risk.networks import high_precision

_ROOT_STEPS = 60  # maximal number of steps of the search for ρ; about five are usual
_FARTHEST = 40.0  # maximal |log ρ|

CHECKS.register(NaturalContrastRegret)(check)


class Ball(NamedTuple):
    """Ball of the divergence (JAX-traceable).

    Attributes:
        metric: F at θ, and λ.
        seen: risk on the inputs of the divergence, with the outputs at θ as labels.
    """

    metric: Metric
    seen: EmpiricalRisk

    def whiten(self, x: Float[Array, " P"]) -> Float[Array, " P"]:
        """Return (F + λ)^(-1/2) x in scaled parameters; without damping, zero in the null space of F."""
        F, V, damping = self.metric.eigenvalues, self.metric.eigenvectors, self.metric.damping
        rest = jnp.where(damping > 0, 1 / jnp.sqrt(jnp.where(damping > 0, damping, 1)), 0)
        return ((1 / jnp.sqrt(F + damping) - rest) * (V @ x)) @ V + rest * x

    def divergence(self, delta: Float[Array, " P"]) -> Float[Array, ""]:
        """Return C(δ)."""
        scale = self.metric.scale
        theta = self.seen.theta + delta
        of_outputs = self.seen.total(lambda X, f, w: w @ self._of_output(f, self.seen.outputs(theta, X)))
        # D is 1/d², and steps do not change parameters with d = 0
        scaled = jnp.where(scale > 0, delta / jnp.where(scale > 0, scale, 1), 0)
        return 2 * of_outputs + self.metric.damping * scaled @ scaled

    def _of_output(self, f: Float[Array, " b"], other: Float[Array, " b"]) -> Float[Array, " b"]:
        change = other - f
        if self.seen.loss_name == "mse":
            return change**2
        p = jax.nn.sigmoid(f)
        small = jnp.abs(change) < 1
        near = jnp.log1p(p * jnp.expm1(jnp.where(small, change, 0))) - p * change
        return jnp.where(small, near, jax.nn.softplus(other) - jax.nn.softplus(f) - p * change)

    def reach(self, v: Float[Array, " P"], size: Float[Array, ""]) -> tuple[Float[Array, ""], Integer[Array, ""]]:
        """Solve C(ρ v) = ‖u‖² for ρ by Newton's method for log C over log ρ; count the evaluations of C."""
        tiny = jnp.finfo(v.dtype).tiny

        def too_far_off(state: tuple[Array, ...]) -> Array:
            *_, step, taken = state
            return (jnp.abs(step) > 64 * jnp.finfo(v.dtype).eps) & (taken < _ROOT_STEPS)

        def nearer(state: tuple[Array, ...]) -> tuple[Array, ...]:
            s, low, high, _, taken = state
            C, slope = jax.jvp(lambda s: self.divergence(jnp.exp(s) * v), (s,), (jnp.ones_like(s),))
            # log √C is nearly log ρ + constant
            excess = jnp.log(jnp.maximum(C, tiny)) / 2 - jnp.log(size)
            known = jnp.isfinite(excess) & jnp.isfinite(slope) & (slope > 0)
            low, high = jnp.where(excess <= 0, s, low), jnp.where(excess <= 0, high, s)
            newton = s - excess * 2 * C / jnp.where(known, slope, 1)
            outside = ~known | (newton < low) | (newton > high)
            aimed = jnp.where(outside, jnp.clip((low + high) / 2, s - 2, s + 2), newton)
            return aimed, low, high, aimed - s, taken + 1

        zero = jnp.zeros((), v.dtype)
        start = (zero, zero - _FARTHEST, zero + _FARTHEST, zero + jnp.inf, jnp.zeros((), int))
        s, *_, taken = lax.while_loop(too_far_off, nearer, start)
        return jnp.exp(s), taken

    def loss(self, batch: EmpiricalRisk) -> Loss:
        """Return L of a minibatch as a function of u.

        Args:
            batch: risk on the minibatch.

        Returns:
            u -> L(θ + δ), its gradient in u, and the cost of both in gradients of L.
        """
        ratio = self.seen.n / batch.n

        def at(u: Array) -> tuple[Array, Array, Array]:
            v = self.metric.scale * self.whiten(u)
            size = jnp.linalg.norm(u)
            inside = size > 0
            rho, taken = lax.cond(
                inside, lambda: self.reach(v, size), lambda: (jnp.ones_like(size), jnp.zeros((), int))
            )
            value, g = batch.value_and_gradient(batch.theta + rho * v)
            slope = jax.grad(self.divergence)(rho * v)
            # C(ρ v) = u·u: dρ = (2 u·du - ρ ∇C·dv) / ∇C·v, with dv = B du
            along = slope @ v
            shift = jnp.where(inside, (g @ v) / jnp.where(inside, along, 1), 0)
            gradient = rho * self.whiten(self.metric.scale * (g - shift * slope)) + 2 * shift * u
            return value, gradient, 1 + ratio * (1 + 2 * FORWARD * taken)

        return at


def ball(risk: EmpiricalRisk, rows: Integer[np.ndarray, " N"], F: Metric) -> Ball:
    """Return the ball around a network's parameters.

    Args:
        risk: network, loss and inputs.
        rows: rows of the inputs of the divergence.
        F: Fisher information at these inputs.

    Returns:
        the ball.
    """
    with high_precision():
        return Ball(F, _seen(risk, jnp.asarray(rows)))


@jax.jit
def _seen(risk: EmpiricalRisk, rows: Array) -> EmpiricalRisk:
    part = minibatch(risk, rows)
    f = lax.map(lambda X: part.outputs(part.theta, X), part.inputs.stack)
    return replace(part, labels=f)


@jax.jit
def _regrets(around: Ball, risk: EmpiricalRisk, pair: Array, radius: Array, tolerance: Array, max_steps: Array) -> Any:
    return both_regrets(risk, pair, around.loss, radius, tolerance, max_steps, together=True)


@MEASURES.register(NaturalContrastRegret)
def natural_contrast_regret(
    risk: EmpiricalRisk, specification: NaturalContrastRegret, seed: int, progress: ProgressCallback
) -> MeasureOutcome:
    """Compute E of the regret at ε, divided by ε.

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: random seed of the inputs for the divergence, and of the minibatches.
        progress: called for each pair.

    Returns:
        one quantity, with the standard error over the pairs drawn, for one choice of inputs for the divergence; the
        diagnostics are those of natural-gradient contrast, and its value for the same pairs (``limit``).
    """
    for_fisher, for_minibatches = parts(risk.n, specification, seed)
    F = metric(risk, for_fisher, specification.damping, specification.damped_by)
    around = ball(risk, for_fisher, F)
    outside = []

    def limit(rows: Integer[np.ndarray, "2 batch"]) -> Pair:
        pair, left_out = pair_in(risk, F, rows)
        outside.append(left_out)
        return pair

    pairs = pairs_of_minibatches(for_minibatches, specification.batch, specification.pairs, seed)
    quantity, gradients = mean_regret(
        risk, specification, pairs, lambda *pair: _regrets(around, *pair), limit, progress
    )
    (quantity,) = judged([quantity], risk, specification, F, len(for_fisher), outside)
    return MeasureOutcome([quantity], gradients + len(for_fisher) / risk.n)
