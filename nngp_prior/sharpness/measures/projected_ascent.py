r"""Maximal loss in a box or an ellipsoid around the parameters, by projected gradient ascent.

.. math:: \max_{u ∈ C} L(θ + A (s ∘ u)), \qquad C = \{u : |u_i| ≤ 1\} \text{ or } \{u : ‖u‖ ≤ 1\}

with s the half-widths of the box, or the half-axes of the ellipsoid, and A the identity or a subspace's directions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from nngp_prior.schemas.statistics import mean_with_error
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.losses import LOSSES

FORWARD = 1 / 3  # cost of a loss without its gradient, in gradients: one of three passes of the same size
NORMALIZED = 2  # cost of a loss of normalised outputs, or of its gradient, relative to the loss: two sums over the data
_SHORTEST, _LONGEST = 2.0**-40, 2.0**10  # step sizes, in units of the neighbourhood


@dataclass(frozen=True)
class Neighbourhood:
    """C, and the direction of a step.

    Attributes:
        direction: direction of steepest ascent, of length 1 in C's norm; zero if the gradient is zero.
        project: projection onto C.
    """

    direction: Callable[[Float[Array, " p"]], Float[Array, " p"]]
    project: Callable[[Float[Array, " p"]], Float[Array, " p"]]


def _of_length_one(g: Float[Array, " p"]) -> Float[Array, " p"]:
    largest = jnp.abs(g).max()  # first, since squares could over- or underflow
    g = g / jnp.where(largest > 0, largest, 1)
    norm = jnp.linalg.norm(g)
    return g / jnp.where(norm > 0, norm, 1)


BOX = Neighbourhood(jnp.sign, lambda u: jnp.clip(u, -1, 1))
BALL = Neighbourhood(_of_length_one, lambda u: u / jnp.maximum(jnp.linalg.norm(u), 1))


class Climb(NamedTuple):
    """Result of an ascent.

    Attributes:
        u: point with the highest loss.
        losses: losses at the start and at each point tried, (steps + 1,).
        slope: largest absolute component of the gradient at the start, in u.
    """

    u: Float[Array, " p"]
    losses: Float[Array, " tried"]
    slope: Float[Array, ""]


def climb(
    loss: Callable[[Float[Array, " p"]], tuple[Float[Array, ""], Float[Array, " p"]]],
    start: Float[Array, " p"],
    neighbourhood: Neighbourhood,
    steps: int,
) -> Climb:
    """Projected ascent that never decreases the loss (JAX-traceable).

    The step size is doubled after an increase, and halved before the next attempt otherwise. The first one is the size
    of the neighbourhood: for a linear function it reaches the maximum, and from the centre of a ball it is the step of
    SAM.

    Args:
        loss: u -> the function to be maximised, and its gradient.
        start: initial u, in C.
        neighbourhood: C.
        steps: number of gradients in addition to that at the start.

    Returns:
        the result.
    """

    def step(state: Any, _: None) -> tuple[Any, Any]:
        tried, u, value, g, eta = state
        there, slope = loss(tried)
        higher = there > value
        u, value, g = jax.tree.map(lambda new, old: jnp.where(higher, new, old), (tried, there, slope), (u, value, g))
        eta = jnp.clip(jnp.where(higher, 2 * eta, eta / 2), _SHORTEST, _LONGEST)
        tried = neighbourhood.project(u + eta * neighbourhood.direction(g))
        return (tried, u, value, g, eta), (there, jnp.abs(slope).max())

    lowest, half = jnp.full((), -jnp.inf, start.dtype), jnp.full((), 0.5, start.dtype)
    state = (start, start, lowest, jnp.zeros_like(start), half)  # the first point tried is the start itself
    (_, u, *_), (losses, slopes) = lax.scan(step, state, length=steps + 1)
    return Climb(u, losses, slopes[0])


def averaged(values: list[float]) -> tuple[float, float | None]:
    """Return the mean of independent values, and its standard error.

    Args:
        values: one or more values, which may be infinite.

    Returns:
        mean and standard error; the error is None for a single value.
    """
    mean, error = mean_with_error(values)
    return mean, error if len(values) > 1 else None


def normalized_loss(risk: EmpiricalRisk, theta: Float[Array, " P"]) -> Float[Array, ""]:
    r"""Return the mean loss of outputs divided by their root mean square (JAX-traceable).

    .. math:: \frac1n \sum_i \ell(f_i / r, y_i), \qquad r^2 = \frac1n \sum_i f_i^2

    Andriushchenko et al. divide the outputs of each example by their norm over classes; for one output only the sign
    would be left, hence the norm over examples.

    Args:
        risk: network, loss and data.
        theta: parameters.

    Returns:
        the loss; NaN if all outputs are zero.
    """
    loss = LOSSES[risk.loss_name]
    square = risk.total(lambda X, y, w: w @ risk.outputs(theta, X) ** 2)
    return risk.total(lambda X, y, w: w @ loss(risk.outputs(theta, X) / jnp.sqrt(square), y))
