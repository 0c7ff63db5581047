r"""Products of vectors with symmetric P × P matrices of a risk, after what they have in common.

.. math::
    H = G + \sum_i w_i \ell'(f_i)\, ∇^2 f_i, \qquad G = \sum_i w_i \ell''(f_i)\, ∇f_i ∇f_i^T, \qquad
    F̂ = \sum_i w_i \ell'(f_i)^2\, ∇f_i ∇f_i^T

The Hessian, the generalised Gauss-Newton matrix and the empirical Fisher information (``hessian``, ``ggn``,
``empirical-fisher``). Fully connected networks have formulas of their own (``dense_networks.py``); others are
differentiated by JAX. All functions are to be traced by JAX.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import Array

from nngp_prior.schemas.sharpness import Matrix
from nngp_prior.sharpness.curvature import dense_networks as dense
from nngp_prior.sharpness.risk.losses import LOSSES, curvature, slope, squared_slope

if TYPE_CHECKING:
    from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk

# c in the part Σ w c ∇f ∇fᵀ of each matrix
FACTORS: dict[Matrix, Callable[..., Array]] = {
    "hessian": curvature,
    "ggn": curvature,
    "empirical-fisher": squared_slope,
}


def prepared(risk: EmpiricalRisk, matrix: Matrix) -> Any:
    """What products with all vectors have in common, at the cost of about a gradient.

    Args:
        risk: at the parameters at hand.
        matrix: which one.

    Returns:
        a pytree for the functions below; None where the risk has more than one chunk, so that memory is bounded by
        the chunk: each product prepares it anew, chunk by chunk.
    """
    return risk.total(lambda X, y, w: _prepared(risk, matrix, X, y, w)) if risk.in_one_chunk else None


def product(risk: EmpiricalRisk, matrix: Matrix, known: Any, v: Any) -> Array:
    """A v.

    Args:
        risk: at the parameters at hand.
        matrix: A.
        known: as :func:`prepared` gave it, or None.
        v: the vector.

    Returns:
        the product.
    """
    return _products(risk, matrix, known, jnp.asarray(v)[None])[0]


def come_in_halves(risk: EmpiricalRisk, matrix: Matrix, known: Any) -> bool:
    """Whether :func:`forward` is but half of a product; the Hessian of networks that JAX differentiates is not split.

    Args:
        risk: at the parameters at hand.
        matrix: which one.
        known: as :func:`prepared` gave it.

    Returns:
        whether it is.
    """
    return known is not None and (matrix != "hessian" or dense.has_formulas(risk.network))


def quadratics(risk: EmpiricalRisk, matrix: Matrix, known: Any, V: Array) -> Array:
    """vᵀ A v of several vectors, as a rule for half of their products.

    Args:
        risk: at the parameters at hand.
        matrix: A.
        known: as :func:`prepared` gave it, or None.
        V: (k, P) the vectors.

    Returns:
        (k,) numbers.
    """
    return _total(risk, matrix, known, lambda X, known: _forward(risk, matrix, X, known, V)[0])


def forward(risk: EmpiricalRisk, matrix: Matrix, known: Any, V: Array) -> tuple[Array, Any]:
    """vᵀ A v of several vectors, and their products half done.

    Args:
        risk: at the parameters at hand.
        matrix: A.
        known: as :func:`prepared` gave it.
        V: (k, P) the vectors.

    Returns:
        (k,) numbers, and what :func:`backward` goes on with: the products themselves where there are several chunks.
    """
    if known is None:
        whole = _products(risk, matrix, None, V)
        return jnp.sum(V * whole, axis=1), whole
    return risk.total(lambda X, y, w: _forward(risk, matrix, X, known, V))


def backward(risk: EmpiricalRisk, matrix: Matrix, known: Any, halfway: Any) -> Array:
    """The other half.

    Args:
        risk: at the parameters at hand.
        matrix: A.
        known: as :func:`prepared` gave it.
        halfway: as :func:`forward` gave it.

    Returns:
        (k, P) products.
    """
    if known is None:
        return halfway
    return risk.total(lambda X, y, w: _backward(risk, matrix, X, known, halfway))


def near_leading(risk: EmpiricalRisk, matrix: Matrix, known: Any) -> Array:
    """Σ w c ∇f, or nearly that; Σ w c ∇f ∇fᵀ is the matrix, or its larger part.

    Args:
        risk: at the parameters at hand.
        matrix: which one.
        known: as :func:`prepared` gave it, or None.

    Returns:
        the sum, as nearly as an iteration's start needs it.
    """
    network, theta = risk.network, risk.theta
    if dense.has_formulas(network):
        return _total(risk, matrix, known, lambda X, known: dense.near_leading(network, theta, X, known))

    def part(X: Array, y: Array, w: Array) -> Array:
        f, back = jax.vjp(lambda theta: risk.outputs(theta, X), theta)
        return back(w * FACTORS[matrix](LOSSES[risk.loss_name], f, y))[0]

    return risk.total(part)


def _total(risk: EmpiricalRisk, matrix: Matrix, known: Any, part: Callable[[Array, Any], Any]) -> Any:
    """Σ over chunks of a function of the inputs and of what products have in common."""
    if known is not None:
        return risk.total(lambda X, y, w: part(X, known))
    return risk.total(lambda X, y, w: part(X, _prepared(risk, matrix, X, y, w)))


def _prepared(risk: EmpiricalRisk, matrix: Matrix, X: Array, y: Array, w: Array) -> Any:
    ell = LOSSES[risk.loss_name]

    def factors(f: Array) -> Array:
        return w * FACTORS[matrix](ell, f, y)

    if dense.has_formulas(risk.network):
        slopes = (lambda f: w * slope(ell, f, y)) if matrix == "hessian" else None
        return dense.prepared(risk.network, risk.theta, X, factors, slopes)
    if matrix == "hessian":
        return jax.linearize(jax.grad(lambda theta: w @ risk.example_losses(theta, X, y)), risk.theta)[1]
    f, along = jax.linearize(lambda theta: risk.outputs(theta, X), risk.theta)
    return along, factors(f)


def _products(risk: EmpiricalRisk, matrix: Matrix, known: Any, V: Array) -> Array:
    def part(X: Array, known: Any) -> Array:
        return _backward(risk, matrix, X, known, _forward(risk, matrix, X, known, V)[1])

    return _total(risk, matrix, known, part)


def _forward(risk: EmpiricalRisk, matrix: Matrix, X: Array, known: Any, V: Array) -> tuple[Array, Any]:
    if dense.has_formulas(risk.network):
        return dense.forward(risk.network, risk.theta, X, known, V)
    if matrix == "hessian":
        whole = dense.one_by_one(known, V)
        return jnp.sum(V * whole, axis=1), whole
    along, factors = known
    Rf = dense.one_by_one(along, V)
    return Rf**2 @ factors, factors * Rf


def _backward(risk: EmpiricalRisk, matrix: Matrix, X: Array, known: Any, halfway: Any) -> Array:
    if dense.has_formulas(risk.network):
        return dense.backward(risk.network, risk.theta, X, known, halfway)
    if matrix == "hessian":
        return halfway
    back = jax.linear_transpose(known[0], risk.theta)
    return dense.one_by_one(lambda Rf: back(Rf)[0], halfway)
