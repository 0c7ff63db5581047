r"""The regret that gradient contrast is the limit of, at a radius ε that is not small.

.. math:: R_ε = \frac{L_2(θ + δ_1) - \min_{‖δ‖ ≤ ε} L_2(θ + δ)}{ε}, \qquad δ_1 = \arg\min_{‖δ‖ ≤ ε} L_1(θ + δ)

The minima are local ones, found by spectral projected gradients (Birgin, Martínez and Raydan, SIAM J. Optim. 10, 2000,
algorithm SPG2 with a monotone search), from δ = 0 and, for L₂, from δ₁ too: the regret is never negative.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float, Integer

from nngp_prior.progress import Progress, ProgressCallback
from nngp_prior.schemas.gradients import ContrastRegret
from nngp_prior.sharpness.contrast import euclidean, figures
from nngp_prior.sharpness.minibatches import check_pairs, minibatch, pairs_of_minibatches
from nngp_prior.sharpness.networks import precisely
from nngp_prior.sharpness.problem import Problem
from nngp_prior.sharpness.registry import CHECKS, MEASURES, Outcome, Quantity

_DECREASE = 1e-4  # of the slope, that a step has to bring (Armijo)
_HALVINGS = 40  # of a step; then nothing lower is in sight of rounding
_SLOW, _CUT = 50, 4  # steps in a row that gain next to nothing, each halved as often
_ROUNDING = 1e3  # units of rounding of which the tolerance is at least


@CHECKS.register(ContrastRegret)
def _check(problem: Problem, specification: ContrastRegret) -> None:
    check_pairs(problem.n, specification.batch)


class Minimum(NamedTuple):
    """Where a minimisation ended.

    Attributes:
        delta: δ.
        value: L(θ + δ).
        gradient: there.
        converged: whether a step of the gradient's leads nowhere, or nothing more is gained.
        evaluations: of L and its gradient.
        steps: taken.
        slow: of them, the last ones that gained next to nothing.
    """

    delta: Float[Array, " P"]
    value: Float[Array, ""]
    gradient: Float[Array, " P"]
    converged: Bool[Array, ""]
    evaluations: Integer[Array, ""]
    steps: Integer[Array, ""]
    slow: Integer[Array, ""]


def minimise(
    problem: Problem, start: Float[Array, " P"], radius: float | Array, tolerance: float | Array, max_steps: int | Array
) -> Minimum:
    """A local minimum of L in the ball ‖δ‖ ≤ ε around θ, to be traced by JAX.

    Args:
        problem: L, and θ.
        start: δ to begin with, in the ball.
        radius: ε.
        tolerance: the end: ‖P(δ - (ε/‖g₀‖) g) - δ‖ ≤ tolerance ε, g₀ the gradient at θ, P the projection on the ball;
            or, as happens at kinks, 50 steps in a row that are cut short and gain less than tolerance ε ‖g₀‖ each.
        max_steps: the end in any case.

    Returns:
        where it is.
    """
    eps, none = jnp.finfo(problem.dtype).eps, jnp.zeros((), int)

    def loss(delta: Array) -> tuple[Array, Array]:
        return problem.value_and_gradient(problem.theta + delta)

    def project(delta: Array) -> Array:
        norm = jnp.linalg.norm(delta)
        return delta * jnp.minimum(1, radius / jnp.where(norm > 0, norm, 1))

    slope = jnp.linalg.norm(loss(jnp.zeros_like(start))[1])
    unit = radius / jnp.where(slope > 0, slope, 1)  # a step of this, times g₀, is as long as the radius

    def stationary(delta: Array, gradient: Array) -> Array:
        return jnp.linalg.norm(project(delta - unit * gradient) - delta) <= tolerance * radius

    def step(state: tuple[Minimum, Array]) -> tuple[Minimum, Array]:
        at, length = state
        direction = project(at.delta - length * at.gradient) - at.delta
        expected = at.gradient @ direction

        def too_high(trial: tuple[Array, Array, Array, Array]) -> Array:
            part, value, _, halvings = trial
            # What rounding may hide is no rise.
            bound = at.value + _DECREASE * part * expected + 10 * eps * jnp.abs(at.value)
            return ~(value <= bound) & (halvings < _HALVINGS)

        def half(trial: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
            part, _, _, halvings = trial
            return part / 2, *loss(at.delta + part / 2 * direction), halvings + 1

        full = (jnp.ones((), start.dtype), *loss(at.delta + direction), none)
        part, value, gradient, halvings = lax.while_loop(too_high, half, full)
        s, change = part * direction, gradient - at.gradient
        # Barzilai and Borwein's step, s·s / s·(g' - g)
        curvature = s @ change
        longest = 1e3 * unit
        length = jnp.where(curvature > 0, jnp.clip(s @ s / curvature, 1e-6 * unit, longest), longest)
        delta, evaluations = at.delta + s, at.evaluations + 1 + halvings
        # At a kink, and not where the loss is smooth but ill-conditioned, steps have to be cut again and again.
        at_kink = (halvings >= _CUT) & (at.value - value <= tolerance * radius * slope)
        slow = jnp.where(at_kink, at.slow + 1, 0)
        converged = stationary(delta, gradient) | (slow >= _SLOW)
        return Minimum(delta, value, gradient, converged, evaluations, at.steps + 1, slow), length

    value, gradient = loss(start)
    first = Minimum(start, value, gradient, stationary(start, gradient), none + 2, none, none)
    return lax.while_loop(
        lambda state: ~state[0].converged & (state[0].steps < max_steps) & jnp.isfinite(state[0].value),
        step,
        (first, jnp.asarray(unit, start.dtype)),
    )[0]


@jax.jit
def _regrets(
    problem: Problem, pair: Array, radius: Array, tolerance: Array, max_steps: Array
) -> tuple[Array, Array, Array]:
    """The regret of each of two minibatches where the other was minimised; whether all converged; evaluations."""
    start = jnp.zeros_like(problem.theta)

    def from_zero(rows: Array) -> Minimum:
        return minimise(minibatch(problem, rows), start, radius, tolerance, max_steps)

    alone = lax.map(from_zero, pair)

    def regret(each: tuple[Array, Array, Array]) -> tuple[Array, Minimum]:
        rows, other, own = each
        batch = minibatch(problem, rows)
        again = minimise(batch, other, radius, tolerance, max_steps)
        missed = batch.loss(problem.theta + other)
        return missed - jnp.minimum(jnp.minimum(own, again.value), missed), again

    regrets, again = lax.map(regret, (pair, alone.delta[::-1], alone.value))
    converged = jnp.all(alone.converged) & jnp.all(again.converged)
    return regrets / radius, converged, jnp.sum(alone.evaluations + again.evaluations) + 2


@MEASURES.register(ContrastRegret)
def contrast_regret(problem: Problem, specification: ContrastRegret, seed: int, progress: ProgressCallback) -> Outcome:
    """E of the regret at ε, divided by ε.

    Args:
        problem: network, loss, data.
        specification: options.
        seed: of the minibatches.
        progress: told of each pair.

    Returns:
        one figure, its standard error that of the pairs that were drawn; the diagnostics hold what it would be at ε = 0
        for the same pairs (``limit``), and what rounding of L may have added (``rounding``).
    """
    eps = float(jnp.finfo(problem.dtype).eps)
    tolerance = max(specification.tolerance, _ROUNDING * eps)
    values, limits, evaluations, missed = [], [], 0, 0
    for rows in pairs_of_minibatches(np.arange(problem.n), specification.batch, specification.pairs, seed):
        with precisely():
            numbers = (jnp.asarray(number, problem.dtype) for number in (specification.radius, tolerance))
            regrets, converged, taken = _regrets(problem, jnp.asarray(rows), *numbers, specification.max_steps)
        values.append(float(np.mean(np.asarray(regrets, np.float64))))
        limits.append(euclidean(problem, rows))
        evaluations += int(taken) + 2
        missed += not converged
        progress(Progress("pairs", len(values), specification.pairs))
    (limit, *_) = figures(limits, ("limit", "norm", "disagreement"))
    status, message = limit.status, limit.message
    if missed:
        status, message = "not-converged", f"no minimum was reached in {missed} of {len(values)} pairs; raise max_steps"
    rounding = eps * float(problem.loss(problem.theta)) / specification.radius
    mean, stderr = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))
    diagnostics = {"limit": limit.value, "rounding": rounding}
    quantity = Quantity("contrast_regret", mean, stderr, status, message, diagnostics)
    return Outcome([quantity], evaluations * specification.batch / problem.n)
