"""Sharpness of Keskar et al.: maximal rise of the loss in a small box around the parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Integer
from scipy.optimize import minimize

from nngp_prior.errors import InvalidInput
from nngp_prior.numerics.random import generator
from nngp_prior.progress import Progress, ProgressCallback
from nngp_prior.schemas.measures.neighbourhoods import ITERATIONS, Keskar
from nngp_prior.sharpness.measures.projected_ascent import BOX, FORWARD, averaged, climb
from nngp_prior.sharpness.measures.registry import CHECKS, MEASURES, MeasureOutcome, Quantity
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.networks import high_precision

_EPSILON = {"keskar": 1e-3, "zhang2021": 1e-4, "sign-pgd": 1e-3}

StepCallback = Callable[[int, int], None]  # (done, total) of one ascent


class Box(NamedTuple):
    """Box over which the loss is maximised.

    Attributes:
        A: directions of the subspace as columns; None for the whole space.
        widths: half of the side lengths, ε (|(A⁺ w)_i| + 1).
    """

    A: Float[Array, "P p"] | None
    widths: Float[Array, " p"]

    def shift(self, z: Float[Array, " p"]) -> Float[Array, " P"]:
        """Return A z."""
        return z if self.A is None else self.A @ z

    def slope(self, g: Float[Array, " P"]) -> Float[Array, " p"]:
        """Return Aᵀ g, the gradient in z."""
        return g if self.A is None else g @ self.A


class Ascent(NamedTuple):
    """Result of one ascent: the highest loss, its cost in gradients, and diagnostics of the method."""

    value: float
    gradients: float
    diagnostics: dict[str, float | int | list[float]]


@CHECKS.register(Keskar)
def check(risk: EmpiricalRisk, specification: Keskar) -> None:
    """Raise an error if a subspace has more dimensions than parameters, or minibatches are larger than the data.

    Args:
        risk: network, loss and data.
        specification: options of the measure.

    Raises:
        InvalidInput: in both cases.
    """
    if specification.subspace is not None and specification.subspace > risk.size:
        message = f"has {specification.subspace} dimensions where there are {risk.size} parameters"
        raise InvalidInput("subspace", message, f"Pass at most {risk.size}, or none for the whole space.")
    if specification.mode == "zhang2021" and specification.batch > risk.n:
        message = f"got {specification.batch} where there are {risk.n} examples"
        raise InvalidInput("batch", message, f"Pass at most {risk.n}.")


@MEASURES.register(Keskar)
def keskar(risk: EmpiricalRisk, specification: Keskar, seed: int, progress: ProgressCallback) -> MeasureOutcome:
    """Compute 100 (max L - L(w)) / (1 + L(w)).

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: random seed of subspaces, minibatches and starts.
        progress: called for each ascent, epoch and start.

    Returns:
        one quantity, with a standard error if it is the mean of several random ascents.
    """
    value, gradient = risk.value_and_gradient(risk.theta)
    here = float(value)
    random = specification.mode == "zhang2021" or specification.subspace is not None
    repeats = specification.repeats if random else 1
    found, gradients, ascents = [], 1.0, []
    for repeat in range(repeats):

        def on_step(done: int, total: int, repeat: int = repeat) -> None:
            progress(Progress("ascents", repeat * total + done, repeats * total))

        ascent = _ASCENTS[specification.mode](risk, specification, seed, repeat, on_step)
        ascents.append(ascent)
        gradients += ascent.gradients
        found.append(100 * (ascent.value - here) / (1 + here))
    sharpness, stderr = averaged(found)
    diagnostics = {"loss": here, "largest_loss": max(ascent.value for ascent in ascents), **ascents[-1].diagnostics}
    if sharpness == 0 and not np.any(np.asarray(gradient)):
        message = "the gradient is zero, and the ascent did not leave the parameters"
        message += "" if specification.mode == "sign-pgd" else "; try mode='sign-pgd', which has random starts too"
        return MeasureOutcome([Quantity("keskar", 0.0, stderr, "zero-gradient", message, diagnostics)], gradients)
    return MeasureOutcome([Quantity("keskar", sharpness, stderr, diagnostics=diagnostics)], gradients)


def box_of(risk: EmpiricalRisk, specification: Keskar, seed: int, repeat: int) -> Box:
    """Return the box around the parameters.

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: random seed of the subspace.
        repeat: index of the subspace.

    Returns:
        the box, in the dtype of the risk.
    """
    theta = np.asarray(risk.theta, np.float64)
    epsilon = specification.epsilon or _EPSILON[specification.mode]
    A, coordinates = None, theta
    if specification.subspace is not None:
        A = generator(seed, "subspace", repeat).standard_normal((risk.size, specification.subspace))
        A /= np.linalg.norm(A, axis=0)
        coordinates = np.linalg.lstsq(A, theta)[0]
    with high_precision():
        widths = jnp.asarray(epsilon * (np.abs(coordinates) + 1), risk.dtype)
        return Box(None if A is None else jnp.asarray(A, risk.dtype), widths)


@jax.jit
def _along(risk: EmpiricalRisk, box: Box, z: Array) -> tuple[Array, Array]:
    value, g = risk.value_and_gradient(risk.theta + box.shift(z))
    return value, box.slope(g)


def _quasi_newton(risk: EmpiricalRisk, specification: Keskar, seed: int, repeat: int, on_step: StepCallback) -> Ascent:
    """Ascent by L-BFGS-B, without its convergence tests."""
    box = box_of(risk, specification, seed, repeat)
    widths = np.asarray(box.widths, np.float64)
    values: list[float] = []

    def descent(z: np.ndarray) -> tuple[float, np.ndarray]:
        with high_precision():
            value, g = _along(risk, box, jnp.asarray(z, risk.dtype))
        values.append(float(value))
        return -float(value), -np.asarray(g, np.float64)

    options = {"maxiter": specification.iterations or ITERATIONS["keskar"], "ftol": 0, "gtol": 0}
    bounds = np.stack([-widths, widths], axis=1)
    result = minimize(descent, np.zeros(len(widths)), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    on_step(1, 1)
    at_edge = float(np.mean(np.abs(result.x) >= widths * (1 - 1e-6)))
    return Ascent(float(np.max(values)), len(values), {"iterations": int(result.nit), "at_edge": at_edge})


@jax.jit(static_argnames="steps")
def _by_signs(risk: EmpiricalRisk, box: Box, start: Array, steps: int) -> tuple[Array, Array]:
    def loss(u: Array) -> tuple[Array, Array]:
        value, g = risk.value_and_gradient(risk.theta + box.shift(box.widths * u))
        return value, box.widths * box.slope(g)

    found = climb(loss, start, BOX, steps)
    return found.losses.max(), found.u


def _sign_pgd(risk: EmpiricalRisk, specification: Keskar, seed: int, repeat: int, on_step: StepCallback) -> Ascent:
    box = box_of(risk, specification, seed, repeat)
    steps = specification.iterations or ITERATIONS["sign-pgd"]
    values, at_edge = [], []
    for start in range(specification.starts):
        corner = generator(seed, "start", repeat, start).integers(0, 2, len(box.widths)) * 2.0 - 1.0
        with high_precision():
            u = jnp.asarray(corner if start else np.zeros(len(corner)), risk.dtype)
            value, u = _by_signs(risk, box, u, steps)
        values.append(float(value))
        at_edge.append(float(np.mean(np.abs(np.asarray(u)) == 1)))
        on_step(start + 1, specification.starts)
    best = int(np.argmax(values))
    return Ascent(values[best], specification.starts * (steps + 1), {"losses": values, "at_edge": at_edge[best]})


@jax.jit
def _epoch(risk: EmpiricalRisk, box: Box, theta: Array, batches: Integer[Array, "k m"], rate: Array) -> Array:

    def step(theta: Array, rows: Array) -> tuple[Array, None]:
        # Gradient of the sum, not of the mean, as in the authors' code (BCEWithLogitsLoss with reduction="sum").
        X, y = risk.inputs.take(rows), risk.y[rows]
        g = jax.grad(lambda theta: risk.example_losses(theta, X, y).sum())(theta)
        return jnp.clip(theta + rate * g, risk.theta - box.widths, risk.theta + box.widths), None

    return lax.scan(step, theta, batches)[0]


def _stochastic(risk: EmpiricalRisk, specification: Keskar, seed: int, repeat: int, on_step: StepCallback) -> Ascent:
    """Ascent on minibatches."""
    box = box_of(risk, specification, seed, repeat)
    epochs = specification.iterations or ITERATIONS["zhang2021"]
    m, theta = specification.batch, risk.theta
    k = risk.n // m
    with high_precision():
        rate = jnp.asarray(specification.learning_rate, risk.dtype)
    values = [float(risk.loss(theta))]
    for epoch in range(epochs):
        rows = generator(seed, "minibatches", repeat, epoch).permutation(risk.n)[: k * m].reshape(k, m)
        with high_precision():
            theta = _epoch(risk, box, theta, jnp.asarray(rows), rate)
        # L by its definition; the authors' code takes the mean of the minibatches' losses right after their steps.
        values.append(float(risk.loss(theta)))
        on_step(epoch + 1, epochs)
    cost = epochs * k * m / risk.n + (epochs + 1) * FORWARD
    z = np.asarray(theta) - np.asarray(risk.theta)
    at_edge = float(np.mean(np.abs(z) >= np.asarray(box.widths) * (1 - 1e-6)))
    return Ascent(float(np.max(values)), cost, {"losses": values, "at_edge": at_edge})


_ASCENTS: dict[str, Callable[[EmpiricalRisk, Keskar, int, int, StepCallback], Ascent]] = {
    "keskar": _quasi_newton,
    "zhang2021": _stochastic,
    "sign-pgd": _sign_pgd,
}
