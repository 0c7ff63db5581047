r"""Products of vectors with the symmetric P × P matrices of some examples, after what they have in common.

.. math::
    H = G + \sum_i w_i \ell'(f_i)\, ∇^2 f_i, \qquad G = \sum_i w_i \ell''(f_i)\, ∇f_i ∇f_i^T, \qquad
    F̂ = \sum_i w_i \ell'(f_i)^2\, ∇f_i ∇f_i^T

The Hessian, the generalised Gauss-Newton matrix and the empirical Fisher information (``hessian``, ``ggn``,
``empirical-fisher``). Fully connected networks have formulas of their own (:mod:`nngp_prior.sharpness.dense`); others
are differentiated by JAX.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import Array

from nngp_prior.schemas.sharpness import LossName, Matrix
from nngp_prior.sharpness import dense
from nngp_prior.sharpness.losses import LOSSES, curvature, slope, squared_slope
from nngp_prior.sharpness.networks import FiniteNetwork

# c in the part Σ w c ∇f ∇fᵀ of each matrix
FACTORS: dict[Matrix, Callable[..., Array]] = {
    "hessian": curvature,
    "ggn": curvature,
    "empirical-fisher": squared_slope,
}


def prepared(network: FiniteNetwork, loss: LossName, matrix: Matrix, theta: Array, X: Array, y: Array, w: Array) -> Any:
    """What products with all vectors have in common, at the cost of about a gradient; to be traced by JAX.

    Args:
        network: the finite network.
        loss: name of the loss.
        matrix: which one.
        theta: parameters, flat.
        X: (b, …) inputs.
        y: (b,) labels.
        w: (b,) weights of the examples.

    Returns:
        a pytree for :func:`product`.
    """
    ell = LOSSES[loss]

    def factors(f: Array) -> Array:
        return w * FACTORS[matrix](ell, f, y)

    def outputs(theta: Array) -> Array:
        return network.forward(network.unflatten(theta), X)

    if dense.has_formulas(network):
        slopes = (lambda f: w * slope(ell, f, y)) if matrix == "hessian" else None
        return dense.prepared(network, theta, X, factors, slopes)
    if matrix == "hessian":
        return jax.linearize(jax.grad(lambda theta: w @ ell(outputs(theta), y)), theta)[1]
    f, along = jax.linearize(outputs, theta)
    return along, factors(f)


def product(network: FiniteNetwork, matrix: Matrix, theta: Array, X: Array, known: Any, v: Any) -> Array:
    """The product with a vector, to be traced by JAX.

    Args:
        network: the finite network.
        matrix: which one.
        theta: parameters, flat.
        X: (b, …) inputs.
        known: what :func:`prepared` gave for the same.
        v: the vector.

    Returns:
        the product.
    """
    if dense.has_formulas(network):
        return dense.product(network, theta, X, known, v)
    if matrix == "hessian":
        return known(v)
    along, factors = known
    (product,) = jax.linear_transpose(along, v)(factors * along(v))
    return product


def sum_of_gradients(
    network: FiniteNetwork, loss: LossName, matrix: Matrix, theta: Array, X: Array, y: Array, w: Array, known: Any
) -> Array:
    """Σ w c ∇f, to be traced by JAX; Σ w c ∇f ∇fᵀ is the matrix, or its larger part.

    Args:
        network: the finite network.
        loss: name of the loss.
        matrix: which one.
        theta: parameters, flat.
        X: (b, …) inputs.
        y: (b,) labels.
        w: (b,) weights of the examples.
        known: what :func:`prepared` gave for the same.

    Returns:
        the sum.
    """
    if dense.has_formulas(network):
        return dense.sum_of_gradients(network, theta, X, known)
    f, backward = jax.vjp(lambda theta: network.forward(network.unflatten(theta), X), theta)
    return backward(w * FACTORS[matrix](LOSSES[loss], f, y))[0]
