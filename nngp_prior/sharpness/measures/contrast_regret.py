r"""Contrast regret at a finite radius ε; its limit for ε → 0 is gradient contrast.

.. math:: R_ε = \frac{L_2(θ + δ_1) - \min_{‖δ‖ ≤ ε} L_2(θ + δ)}{ε}, \qquad δ_1 = \arg\min_{‖δ‖ ≤ ε} L_1(θ + δ)

The minima are local ones, found by spectral projected gradients (Birgin, Martínez and Raydan, SIAM J. Optim. 10, 2000,
algorithm SPG2 with a monotone search) from δ = 0 and, for L₂, from δ₁ too: the regret is never negative. Balls that are
not Euclidean are images of a Euclidean ball: the minimisation is over the u of a map u ↦ δ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float, Integer

from nngp_prior.progress import Progress, ProgressCallback
from nngp_prior.schemas.measures.gradients import ContrastRegret, NaturalContrastRegret
from nngp_prior.schemas.statistics import mean_with_error
from nngp_prior.sharpness.measures.gradient_contrast import euclidean, figures
from nngp_prior.sharpness.measures.registry import CHECKS, MEASURES, MeasureOutcome, Quantity
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.minibatches import Pair, check_pairs, minibatch, pairs_of_minibatches
from nngp_prior.sharpness.risk.networks import high_precision

_DECREASE = 1e-4  # decrease required of a step, as a fraction of the slope (Armijo)
_HALVINGS = 40  # halvings of a step, after which a lower loss cannot be distinguished from rounding
_SLOW, _CUT = 50, 4  # steps in a row with negligible gain, and halvings of each
_ROUNDING = 1e3  # lower limit of the tolerance, in units of rounding

# u -> L(θ + δ(u)), its gradient in u, and the cost of both in gradients of L
Loss = Callable[[Float[Array, " P"]], tuple[Float[Array, ""], Float[Array, " P"], float | Float[Array, ""]]]
# (risk, rows of two minibatches, ε, tolerance, max_steps) -> regrets, True if all converged, gradients
Regrets = Callable[[EmpiricalRisk, Array, Array, Array, int], tuple[Array, Array, Array]]


@CHECKS.register(ContrastRegret)
def _check(risk: EmpiricalRisk, specification: ContrastRegret) -> None:
    check_pairs(risk.n, specification.batch)


class Minimum(NamedTuple):
    """Result of a minimisation.

    Attributes:
        u: u at the minimum; δ itself in the Euclidean ball.
        value: L(θ + δ) at the minimum.
        gradient: gradient in u at the minimum.
        converged: True if the projected gradient step is below the tolerance or the last steps gained too little.
        gradients: cost in gradients of L.
        steps: number of steps.
        slow: number of last steps with negligible gain.
    """

    u: Float[Array, " P"]
    value: Float[Array, ""]
    gradient: Float[Array, " P"]
    converged: Bool[Array, ""]
    gradients: Float[Array, ""]
    steps: Integer[Array, ""]
    slow: Integer[Array, ""]


def around(risk: EmpiricalRisk) -> Loss:
    """Return L as a function of δ, in the Euclidean ball.

    Args:
        risk: risk with L and θ.

    Returns:
        δ -> L(θ + δ), its gradient, and 1, the cost in gradients.
    """
    return lambda delta: (*risk.value_and_gradient(risk.theta + delta), 1.0)


def minimise(
    loss: Loss,
    start: Float[Array, " P"],
    radius: float | Array,
    tolerance: float | Array,
    max_steps: int | Array,
    together: bool = False,
) -> Minimum:
    """Find a local minimum of L in the ball ‖u‖ ≤ ε (JAX-traceable).

    Args:
        loss: loss as a function of u.
        start: initial u, in the ball.
        radius: ε.
        tolerance: the minimisation ends if ‖P(u - (ε/‖g₀‖) g) - u‖ ≤ tolerance ε, with g₀ the gradient at θ and P the
            projection on the ball; or, as happens at kinks, if 50 steps in a row are shortened and gain less than
            tolerance ε ‖g₀‖ each.
        max_steps: maximal number of steps.
        together: True to end also if 50 steps gain less than that in total, shortened or not; for losses with many
            kinks.

    Returns:
        the minimum.
    """
    eps, none = jnp.finfo(start.dtype).eps, jnp.zeros((), int)

    def project(u: Array) -> Array:
        norm = jnp.linalg.norm(u)
        return u * jnp.minimum(1, radius / jnp.where(norm > 0, norm, 1))

    _, steepest, cost_there = loss(jnp.zeros_like(start))
    slope = jnp.linalg.norm(steepest)
    unit = radius / jnp.where(slope > 0, slope, 1)  # this step size times g₀ is as long as the radius

    def stationary(u: Array, gradient: Array) -> Array:
        return jnp.linalg.norm(project(u - unit * gradient) - u) <= tolerance * radius

    def step(state: tuple[Minimum, Array, Array]) -> tuple[Minimum, Array, Array]:
        at, length, mark = state  # mark: L before the last step, or before the steps with negligible total gain
        direction = project(at.u - length * at.gradient) - at.u
        expected = at.gradient @ direction

        def too_high(trial: tuple[Array, ...]) -> Array:
            part, value, _, _, halvings = trial
            # A rise within rounding is not a rise.
            bound = at.value + _DECREASE * part * expected + 10 * eps * jnp.abs(at.value)
            return ~(value <= bound) & (halvings < _HALVINGS)

        def half(trial: tuple[Array, ...]) -> tuple[Array, ...]:
            part, _, _, spent, halvings = trial
            value, gradient, cost = loss(at.u + part / 2 * direction)
            return part / 2, value, gradient, spent + cost, halvings + 1

        value, gradient, cost = loss(at.u + direction)
        full = (jnp.ones((), start.dtype), value, gradient, jnp.asarray(cost, start.dtype), none)
        part, value, gradient, spent, halvings = lax.while_loop(too_high, half, full)
        s, change = part * direction, gradient - at.gradient
        # step size of Barzilai and Borwein, s·s / s·(g' - g)
        curvature = s @ change
        longest = 1e3 * unit
        length = jnp.where(curvature > 0, jnp.clip(s @ s / curvature, 1e-6 * unit, longest), longest)
        u = at.u + s
        # Steps are shortened again and again at a kink, but not if the loss is smooth and ill-conditioned.
        next_to_nothing = mark - value <= tolerance * radius * slope
        at_kink = next_to_nothing & (together | (halvings >= _CUT))
        slow, mark = jnp.where(at_kink, at.slow + 1, 0), jnp.where(next_to_nothing & together, mark, value)
        converged = stationary(u, gradient) | (slow >= _SLOW)
        return Minimum(u, value, gradient, converged, at.gradients + spent, at.steps + 1, slow), length, mark

    value, gradient, cost = loss(start)
    spent = jnp.asarray(cost_there + cost, start.dtype)
    first = Minimum(start, value, gradient, stationary(start, gradient), spent, none, none)
    return lax.while_loop(
        lambda state: ~state[0].converged & (state[0].steps < max_steps) & jnp.isfinite(state[0].value),
        step,
        (first, jnp.asarray(unit, start.dtype), value),
    )[0]


def both_regrets(
    risk: EmpiricalRisk,
    pair: Integer[Array, "2 batch"],
    loss_in: Callable[[EmpiricalRisk], Loss],
    radius: Array,
    tolerance: Array,
    max_steps: int | Array,
    together: bool = False,
) -> tuple[Array, Array, Array]:
    """Return the regret of each of two minibatches after minimising the loss of the other (JAX-traceable).

    Args:
        risk: risk on all examples.
        pair: rows of the two minibatches.
        loss_in: function of the risk on a minibatch that returns its loss as a function of u.
        radius: ε.
        tolerance: as for :func:`minimise`.
        max_steps: as for :func:`minimise`.
        together: as for :func:`minimise`.

    Returns:
        regrets divided by ε; True if all minimisations converged; cost in gradients of a minibatch.
    """
    start = jnp.zeros_like(risk.theta)

    def loss_on(rows: Array) -> Loss:
        return jax.jit(loss_in(minibatch(risk, rows)))  # traced once for all of its uses in a minimisation

    def from_zero(rows: Array) -> Minimum:
        return minimise(loss_on(rows), start, radius, tolerance, max_steps, together)

    alone = lax.map(from_zero, pair)

    def regret(each: tuple[Array, Array, Array]) -> tuple[Array, Minimum, Array]:
        rows, other, own = each
        loss = loss_on(rows)
        again = minimise(loss, other, radius, tolerance, max_steps, together)
        missed, _, cost = loss(other)
        return missed - jnp.minimum(jnp.minimum(own, again.value), missed), again, jnp.asarray(cost, missed.dtype)

    regrets, again, costs = lax.map(regret, (pair, alone.u[::-1], alone.value))
    converged = jnp.all(alone.converged) & jnp.all(again.converged)
    return regrets / radius, converged, jnp.sum(alone.gradients + again.gradients + costs)


@jax.jit
def _regrets(
    risk: EmpiricalRisk, pair: Array, radius: Array, tolerance: Array, max_steps: Array
) -> tuple[Array, Array, Array]:
    return both_regrets(risk, pair, around, radius, tolerance, max_steps)


def mean_regret(
    risk: EmpiricalRisk,
    specification: ContrastRegret | NaturalContrastRegret,
    pairs: Iterator[Integer[np.ndarray, "2 batch"]],
    regrets: Regrets,
    limit: Callable[[Integer[np.ndarray, "2 batch"]], Pair],
    progress: ProgressCallback,
) -> tuple[Quantity, float]:
    """Compute E of the regret at ε, divided by ε.

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        pairs: rows of two minibatches each.
        regrets: :func:`both_regrets`, compiled.
        limit: function that returns the contrast of a pair at ε = 0.
        progress: called for each pair.

    Returns:
        the quantity, with the standard error over the pairs drawn; cost in gradients of all data.
    """
    eps = float(jnp.finfo(risk.dtype).eps)
    tolerance = max(specification.tolerance, _ROUNDING * eps)
    values, limits, taken, missed = [], [], 0.0, 0
    for rows in pairs:
        with high_precision():
            radius, part = (jnp.asarray(number, risk.dtype) for number in (specification.radius, tolerance))
            found, converged, cost = regrets(risk, jnp.asarray(rows), radius, part, specification.max_steps)
        values.append(float(np.mean(np.asarray(found, np.float64))))
        limits.append(limit(rows))
        taken += float(cost) + 2
        missed += not converged
        progress(Progress("pairs", len(values), specification.pairs))
    (at_zero, *_) = figures(limits, ("limit", "norm", "disagreement"))
    status, message = at_zero.status, at_zero.message
    if missed:
        status, message = "not-converged", f"no minimum was reached in {missed} of {len(values)} pairs; raise max_steps"
    rounding = eps * float(risk.loss(risk.theta)) / specification.radius
    mean, stderr = mean_with_error(values)
    diagnostics = {"limit": at_zero.value, "rounding": rounding}
    name = specification.kind.replace("-", "_")
    return Quantity(name, mean, stderr, status, message, diagnostics), taken * specification.batch / risk.n


@MEASURES.register(ContrastRegret)
def contrast_regret(
    risk: EmpiricalRisk, specification: ContrastRegret, seed: int, progress: ProgressCallback
) -> MeasureOutcome:
    """Compute E of the regret at ε, divided by ε.

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: random seed of the minibatches.
        progress: called for each pair.

    Returns:
        one quantity, with the standard error over the pairs drawn; the diagnostics have its value at ε = 0 for the same
        pairs (``limit``), and the possible contribution of rounding of L (``rounding``).
    """
    pairs = pairs_of_minibatches(np.arange(risk.n), specification.batch, specification.pairs, seed)
    quantity, gradients = mean_regret(
        risk, specification, pairs, _regrets, lambda rows: euclidean(risk, rows), progress
    )
    return MeasureOutcome([quantity], gradients)
