"""Losses of one output f and a label y = ±1, or of C outputs and a label 0 … C-1, and the training error.

JAX differentiates them.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from nngp_prior.schemas.specs.training import LossName

Loss = Callable[[Float[Array, "..."], Float[Array, "*n"]], Float[Array, "*n"]]


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


def softmax_cross_entropy(f: Float[Array, "*n C"], y: Float[Array, "*n"]) -> Float[Array, "*n"]:
    r"""Cross-entropy of C logits: negative natural logarithm of the label's probability under a softmax.

    .. math:: \ell(f, y) = \log \sum_c e^{f_c - f_y} = \log(1 + e^u), \qquad u = \log \sum_{c ≠ y} e^{f_c - f_y}

    The latter form is accurate for losses near 0 too. For C = 2 it is the loss of one logit, the difference of both.

    Args:
        f: outputs.
        y: labels, 0 … C-1.

    Returns:
        loss of each example, in nats.
    """
    others = ~_is_label(f, y)
    return jax.nn.softplus(jax.nn.logsumexp(f - _at_label(f, y), axis=-1, where=others))


def one_hot_squared_error(f: Float[Array, "*n C"], y: Float[Array, "*n"]) -> Float[Array, "*n"]:
    r"""Squared distance from the one-hot label, the sum over outputs, without a factor of a half.

    .. math:: \ell(f, y) = \sum_c (f_c - δ_{cy})^2

    Args:
        f: outputs.
        y: labels, 0 … C-1.

    Returns:
        loss of each example.
    """
    return jnp.sum((f - _is_label(f, y)) ** 2, axis=-1)


def is_argmax_error(f: Float[Array, "*n C"], y: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Classification errors: 0 if the label's output is larger than each of the others, else 1.

    Args:
        f: outputs.
        y: labels, 0 … C-1.

    Returns:
        error of each example, in the dtype of the outputs; ties and NaN count as errors.
    """
    right = jnp.all(_is_label(f, y) | (f < _at_label(f, y)), axis=-1) & jnp.isfinite(f).all(axis=-1)
    return jnp.where(right, 0.0, 1.0).astype(f.dtype)


def _is_label(f: Float[Array, "*n C"], y: Float[Array, "*n"]) -> Bool[Array, "*n C"]:
    return jnp.arange(f.shape[-1]) == y[..., None]


def _at_label(f: Float[Array, "*n C"], y: Float[Array, "*n"]) -> Float[Array, "*n 1"]:
    return jnp.take_along_axis(f, y[..., None].astype(int), axis=-1)


LOSSES: dict[LossName, Loss] = {"cross-entropy": cross_entropy, "mse": squared_error}
CLASS_LOSSES: dict[LossName, Loss] = {"cross-entropy": softmax_cross_entropy, "mse": one_hot_squared_error}


def loss_of(name: LossName, classes: int | None) -> Loss:
    """Return the loss of a network's outputs.

    Args:
        name: name of the loss.
        classes: number of outputs C with labels 0 … C-1; None for one output with labels ±1.

    Returns:
        (outputs, labels) -> loss of each example.
    """
    return (LOSSES if classes is None else CLASS_LOSSES)[name]


def error_of(classes: int | None) -> Loss:
    """Return the classification error of a network's outputs; see :func:`loss_of`."""
    return is_error if classes is None else is_argmax_error


def slope(loss: Loss, f: Float[Array, "n ..."], y: Float[Array, " n"]) -> Float[Array, "n ..."]:
    """∂ℓ/∂f of each example.

    Args:
        loss: ℓ.
        f: outputs, one or C per example.
        y: labels.

    Returns:
        first derivatives.
    """
    return jax.vmap(jax.grad(loss))(f, y)


def curvature(loss: Loss, f: Float[Array, "n ..."], y: Float[Array, " n"]) -> Float[Array, "n ..."]:
    """∂²ℓ/∂f² of each example.

    Args:
        loss: ℓ.
        f: outputs, one or C per example.
        y: labels.

    Returns:
        second derivatives: a number per example, or a (C, C) block; diag p - p pᵀ for softmax probabilities p.
    """
    return jax.vmap(jax.grad(jax.grad(loss)) if f.ndim == 1 else jax.hessian(loss))(f, y)


def squared_slope(loss: Loss, f: Float[Array, "n ..."], y: Float[Array, " n"]) -> Float[Array, "n ..."]:
    """Outer product of ∂ℓ/∂f with itself, of each example.

    Args:
        loss: ℓ.
        f: outputs, one or C per example.
        y: labels.

    Returns:
        squares of the first derivatives: a number per example, or a (C, C) block.
    """
    slopes = slope(loss, f, y)
    return slopes**2 if f.ndim == 1 else slopes[:, :, None] * slopes[:, None, :]


def weighted(weights: Float[Array, " n"], factors: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
    """Multiply each example's derivatives by its weight.

    Args:
        weights: one number per example.
        factors: as :func:`slope`, :func:`curvature` or :func:`squared_slope` returned them.

    Returns:
        the products.
    """
    return weights.reshape(-1, *(1,) * (factors.ndim - 1)) * factors
