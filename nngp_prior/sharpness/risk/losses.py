"""Losses of one output f and one label y = ±1, and the training error. JAX differentiates them."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from nngp_prior.schemas.specs.training import LossName

Loss = Callable[[Float[Array, "*n"], Float[Array, "*n"]], Float[Array, "*n"]]


def cross_entropy(f: Float[Array, "*n"], y: Float[Array, "*n"]) -> Float[Array, "*n"]:
    r"""Cross-entropy of one logit: negative natural logarithm of the label's probability under a sigmoid.

    .. math:: \ell(f, y) = \log(1 + e^{-y f})

    Args:
        f: outputs.
        y: labels, ±1.

    Returns:
        loss of each example, in nats.
    """
    return jax.nn.softplus(-y * f)


def squared_error(f: Float[Array, "*n"], y: Float[Array, "*n"]) -> Float[Array, "*n"]:
    r"""Squared error, without a factor of a half.

    .. math:: \ell(f, y) = (f - y)^2

    Args:
        f: outputs.
        y: labels, ±1.

    Returns:
        loss of each example.
    """
    return (f - y) ** 2


def is_error(f: Float[Array, "*n"], y: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Classification errors: 1 if y f ≤ 0, including an output of 0, else 0.

    Args:
        f: outputs.
        y: labels, ±1.

    Returns:
        error of each example, in the dtype of the outputs; NaN counts as an error.
    """
    return jnp.where(y * f > 0, 0.0, 1.0).astype(f.dtype)


LOSSES: dict[LossName, Loss] = {"cross-entropy": cross_entropy, "mse": squared_error}


def slope(loss: Loss, f: Float[Array, " n"], y: Float[Array, " n"]) -> Float[Array, " n"]:
    """∂ℓ/∂f of each example.

    Args:
        loss: ℓ.
        f: outputs.
        y: labels, ±1.

    Returns:
        first derivatives.
    """
    return jax.vmap(jax.grad(loss))(f, y)


def curvature(loss: Loss, f: Float[Array, " n"], y: Float[Array, " n"]) -> Float[Array, " n"]:
    """∂²ℓ/∂f² of each example.

    Args:
        loss: ℓ.
        f: outputs.
        y: labels, ±1.

    Returns:
        second derivatives.
    """
    return jax.vmap(jax.grad(jax.grad(loss)))(f, y)


def squared_slope(loss: Loss, f: Float[Array, " n"], y: Float[Array, " n"]) -> Float[Array, " n"]:
    """(∂ℓ/∂f)² of each example.

    Args:
        loss: ℓ.
        f: outputs.
        y: labels, ±1.

    Returns:
        squares of the first derivatives.
    """
    return slope(loss, f, y) ** 2
