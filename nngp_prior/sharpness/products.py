r"""Products of vectors with symmetric P × P matrices of a problem, after what they have in common.

.. math::
    H = G + \sum_i w_i \ell'(f_i)\, ∇^2 f_i, \qquad G = \sum_i w_i \ell''(f_i)\, ∇f_i ∇f_i^T, \qquad
    F̂ = \sum_i w_i \ell'(f_i)^2\, ∇f_i ∇f_i^T

The Hessian, the generalised Gauss-Newton matrix and the empirical Fisher information (``hessian``, ``ggn``,
``empirical-fisher``). Fully connected networks have formulas of their own (:mod:`nngp_prior.sharpness.dense`); others
are differentiated by JAX. All functions are to be traced by JAX.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import Array

from nngp_prior.schemas.sharpness import Matrix
from nngp_prior.sharpness import dense
from nngp_prior.sharpness.losses import LOSSES, curvature, slope, squared_slope

if TYPE_CHECKING:
    from nngp_prior.sharpness.problem import Problem

# c in the part Σ w c ∇f ∇fᵀ of each matrix
FACTORS: dict[Matrix, Callable[..., Array]] = {
    "hessian": curvature,
    "ggn": curvature,
    "empirical-fisher": squared_slope,
}


def prepared(problem: Problem, matrix: Matrix) -> Any:
    """What products with all vectors have in common, at the cost of about a gradient.

    Args:
        problem: at the parameters at hand.
        matrix: which one.

    Returns:
        a pytree for the functions below; None where the problem has more than one chunk, so that memory is bounded by
        the chunk: each product prepares it anew, chunk by chunk.
    """
    return problem.total(lambda X, y, w: _prepared(problem, matrix, X, y, w)) if problem.in_one_chunk else None


def product(problem: Problem, matrix: Matrix, known: Any, v: Any) -> Array:
    """A v.

    Args:
        problem: at the parameters at hand.
        matrix: A.
        known: as :func:`prepared` gave it, or None.
        v: the vector.

    Returns:
        the product.
    """
    return _products(problem, matrix, known, jnp.asarray(v)[None])[0]


def come_in_halves(problem: Problem, matrix: Matrix, known: Any) -> bool:
    """Whether :func:`forward` is but half of a product; the Hessian of networks that JAX differentiates is not split.

    Args:
        problem: at the parameters at hand.
        matrix: which one.
        known: as :func:`prepared` gave it.

    Returns:
        whether it is.
    """
    return known is not None and (matrix != "hessian" or dense.has_formulas(problem.network))


def quadratics(problem: Problem, matrix: Matrix, known: Any, V: Array) -> Array:
    """vᵀ A v of several vectors, as a rule for half of their products.

    Args:
        problem: at the parameters at hand.
        matrix: A.
        known: as :func:`prepared` gave it, or None.
        V: (k, P) the vectors.

    Returns:
        (k,) numbers.
    """
    return _total(problem, matrix, known, lambda X, known: _forward(problem, matrix, X, known, V)[0])


def forward(problem: Problem, matrix: Matrix, known: Any, V: Array) -> tuple[Array, Any]:
    """vᵀ A v of several vectors, and their products half done.

    Args:
        problem: at the parameters at hand.
        matrix: A.
        known: as :func:`prepared` gave it.
        V: (k, P) the vectors.

    Returns:
        (k,) numbers, and what :func:`backward` goes on with: the products themselves where there are several chunks.
    """
    if known is None:
        whole = _products(problem, matrix, None, V)
        return jnp.sum(V * whole, axis=1), whole
    return problem.total(lambda X, y, w: _forward(problem, matrix, X, known, V))


def backward(problem: Problem, matrix: Matrix, known: Any, halfway: Any) -> Array:
    """The other half.

    Args:
        problem: at the parameters at hand.
        matrix: A.
        known: as :func:`prepared` gave it.
        halfway: as :func:`forward` gave it.

    Returns:
        (k, P) products.
    """
    if known is None:
        return halfway
    return problem.total(lambda X, y, w: _backward(problem, matrix, X, known, halfway))


def near_leading(problem: Problem, matrix: Matrix, known: Any) -> Array:
    """Σ w c ∇f, or nearly that; Σ w c ∇f ∇fᵀ is the matrix, or its larger part.

    Args:
        problem: at the parameters at hand.
        matrix: which one.
        known: as :func:`prepared` gave it, or None.

    Returns:
        the sum, as nearly as an iteration's start needs it.
    """
    network, theta = problem.network, problem.theta
    if dense.has_formulas(network):
        return _total(problem, matrix, known, lambda X, known: dense.near_leading(network, theta, X, known))

    def part(X: Array, y: Array, w: Array) -> Array:
        f, back = jax.vjp(lambda theta: problem.outputs(theta, X), theta)
        return back(w * FACTORS[matrix](LOSSES[problem.loss_name], f, y))[0]

    return problem.total(part)


def _total(problem: Problem, matrix: Matrix, known: Any, part: Callable[[Array, Any], Any]) -> Any:
    """Σ over chunks of a function of the inputs and of what products have in common."""
    if known is not None:
        return problem.total(lambda X, y, w: part(X, known))
    return problem.total(lambda X, y, w: part(X, _prepared(problem, matrix, X, y, w)))


def _prepared(problem: Problem, matrix: Matrix, X: Array, y: Array, w: Array) -> Any:
    ell = LOSSES[problem.loss_name]

    def factors(f: Array) -> Array:
        return w * FACTORS[matrix](ell, f, y)

    if dense.has_formulas(problem.network):
        slopes = (lambda f: w * slope(ell, f, y)) if matrix == "hessian" else None
        return dense.prepared(problem.network, problem.theta, X, factors, slopes)
    if matrix == "hessian":
        return jax.linearize(jax.grad(lambda theta: w @ problem.example_losses(theta, X, y)), problem.theta)[1]
    f, along = jax.linearize(lambda theta: problem.outputs(theta, X), problem.theta)
    return along, factors(f)


def _products(problem: Problem, matrix: Matrix, known: Any, V: Array) -> Array:
    def part(X: Array, known: Any) -> Array:
        return _backward(problem, matrix, X, known, _forward(problem, matrix, X, known, V)[1])

    return _total(problem, matrix, known, part)


def _forward(problem: Problem, matrix: Matrix, X: Array, known: Any, V: Array) -> tuple[Array, Any]:
    if dense.has_formulas(problem.network):
        return dense.forward(problem.network, problem.theta, X, known, V)
    if matrix == "hessian":
        whole = dense.one_by_one(known, V)
        return jnp.sum(V * whole, axis=1), whole
    along, factors = known
    Rf = dense.one_by_one(along, V)
    return Rf**2 @ factors, factors * Rf


def _backward(problem: Problem, matrix: Matrix, X: Array, known: Any, halfway: Any) -> Array:
    if dense.has_formulas(problem.network):
        return dense.backward(problem.network, problem.theta, X, known, halfway)
    if matrix == "hessian":
        return halfway
    back = jax.linear_transpose(known[0], problem.theta)
    return dense.one_by_one(lambda Rf: back(Rf)[0], halfway)
