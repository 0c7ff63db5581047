r"""Products of vectors with symmetric P × P matrices of a risk, which share one linearisation of the network.

.. math::
    H = G + \sum_i w_i \ell'(f_i)\, ∇^2 f_i, \qquad G = \sum_i w_i \ell''(f_i)\, ∇f_i ∇f_i^T, \qquad
    F̂ = \sum_i w_i \ell'(f_i)^2\, ∇f_i ∇f_i^T

With C outputs ∇f_i is the (P, C) transposed Jacobian, and ℓ'' and ℓ'² are the C × C blocks of second derivatives and of
ℓ' ℓ'ᵀ: :math:`G = \sum_i w_i J_i^T (\mathrm{diag}\, p_i - p_i p_i^T) J_i` for cross-entropy.

The Hessian, the generalised Gauss-Newton matrix and the empirical Fisher information (``hessian``, ``ggn``,
``empirical-fisher``). Fully connected networks of one output have formulas of their own (``dense_networks.py``); others
are differentiated by JAX. All functions are JAX-traceable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import Array

from nngp_prior.schemas.measures.curvature import Matrix
from nngp_prior.sharpness.curvature import dense_networks as dense
from nngp_prior.sharpness.risk.losses import curvature, slope, squared_slope, weighted

if TYPE_CHECKING:
    from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk

# c, a number or a C × C block per example, in the part Σ w c ∇f ∇fᵀ of each matrix
FACTORS: dict[Matrix, Callable[..., Array]] = {
    "hessian": curvature,
    "ggn": curvature,
    "empirical-fisher": squared_slope,
}


def linearise(risk: EmpiricalRisk, matrix: Matrix) -> Any:
    """Linearise the network once for the products with all vectors, at the cost of about a gradient.

    Args:
        risk: empirical risk at its parameters.
        matrix: name of the matrix.

    Returns:
        a pytree for the functions below; None if the risk has more than one chunk, so that memory is bounded by the
        chunk: each product then linearises it anew, chunk by chunk.
    """
    return risk.total(lambda X, y, w: _linearise(risk, matrix, X, y, w)) if risk.in_one_chunk else None


def product(risk: EmpiricalRisk, matrix: Matrix, linearisation: Any, v: Any) -> Array:
    """Compute the product A v.

    Args:
        risk: empirical risk at its parameters.
        matrix: name of A.
        linearisation: as :func:`linearise` returned it, or None.
        v: the vector.

    Returns:
        the product.
    """
    return _products(risk, matrix, linearisation, jnp.asarray(v)[None])[0]


def come_in_halves(risk: EmpiricalRisk, matrix: Matrix, linearisation: Any) -> bool:
    """Return True if :func:`forward` does half of a product; Hessians differentiated by JAX are not split.

    Args:
        risk: empirical risk at its parameters.
        matrix: name of the matrix.
        linearisation: as :func:`linearise` returned it.

    Returns:
        True if :func:`backward` does the other half.
    """
    return linearisation is not None and (matrix != "hessian" or dense.has_formulas(risk.network))


def quadratics(risk: EmpiricalRisk, matrix: Matrix, linearisation: Any, V: Array) -> Array:
    """Compute vᵀ A v of several vectors, usually at half the cost of their products.

    Args:
        risk: empirical risk at its parameters.
        matrix: name of A.
        linearisation: as :func:`linearise` returned it, or None.
        V: (k, P) the vectors.

    Returns:
        (k,) numbers.
    """
    return _total(risk, matrix, linearisation, lambda X, linearisation: _forward(risk, matrix, X, linearisation, V)[0])


def forward(risk: EmpiricalRisk, matrix: Matrix, linearisation: Any, V: Array) -> tuple[Array, Any]:
    """Compute vᵀ A v of several vectors, and the first half of their products.

    Args:
        risk: empirical risk at its parameters.
        matrix: name of A.
        linearisation: as :func:`linearise` returned it.
        V: (k, P) the vectors.

    Returns:
        (k,) numbers, and the intermediates for :func:`backward`: the products themselves if there are several chunks.
    """
    if linearisation is None:
        whole = _products(risk, matrix, None, V)
        return jnp.sum(V * whole, axis=1), whole
    return risk.total(lambda X, y, w: _forward(risk, matrix, X, linearisation, V))


def backward(risk: EmpiricalRisk, matrix: Matrix, linearisation: Any, intermediates: Any) -> Array:
    """Compute the second half of the products.

    Args:
        risk: empirical risk at its parameters.
        matrix: name of A.
        linearisation: as :func:`linearise` returned it.
        intermediates: as :func:`forward` returned them.

    Returns:
        (k, P) products.
    """
    if linearisation is None:
        return intermediates
    return risk.total(lambda X, y, w: _backward(risk, matrix, X, linearisation, intermediates))


def start_vector(risk: EmpiricalRisk, matrix: Matrix, linearisation: Any) -> Array:
    """Compute Σ w c ∇f approximately; Σ w c ∇f ∇fᵀ is the matrix, or its larger part.

    Args:
        risk: empirical risk at its parameters.
        matrix: name of the matrix.
        linearisation: as :func:`linearise` returned it, or None.

    Returns:
        the sum, accurate enough to start an iteration from.
    """
    network, theta = risk.network, risk.theta
    if dense.has_formulas(network):
        return _total(
            risk, matrix, linearisation, lambda X, linearisation: dense.start_vector(network, theta, X, linearisation)
        )

    def part(X: Array, y: Array, w: Array) -> Array:
        f, back = jax.vjp(lambda theta: risk.outputs(theta, X), theta)
        factors = weighted(w, FACTORS[matrix](risk.output_loss, f, y))
        if risk.classes is not None:
            # diag p - ppᵀ maps 1 to 0: the row of the label instead
            factors = jnp.take_along_axis(factors, y[:, None, None].astype(int), axis=1)[:, 0]
        return back(factors)[0]

    return risk.total(part)


def _total(risk: EmpiricalRisk, matrix: Matrix, linearisation: Any, part: Callable[[Array, Any], Any]) -> Any:
    """Sum over chunks of a function of the inputs and the linearisation."""
    if linearisation is not None:
        return risk.total(lambda X, y, w: part(X, linearisation))
    return risk.total(lambda X, y, w: part(X, _linearise(risk, matrix, X, y, w)))


def _linearise(risk: EmpiricalRisk, matrix: Matrix, X: Array, y: Array, w: Array) -> Any:
    ell = risk.output_loss

    def factors(f: Array) -> Array:
        return weighted(w, FACTORS[matrix](ell, f, y))

    if dense.has_formulas(risk.network):
        slopes = (lambda f: w * slope(ell, f, y)) if matrix == "hessian" else None
        return dense.linearise(risk.network, risk.theta, X, factors, slopes)
    if matrix == "hessian":
        return jax.linearize(jax.grad(lambda theta: w @ risk.example_losses(theta, X, y)), risk.theta)[1]
    f, along = jax.linearize(lambda theta: risk.outputs(theta, X), risk.theta)
    return along, factors(f)


def _products(risk: EmpiricalRisk, matrix: Matrix, linearisation: Any, V: Array) -> Array:
    def part(X: Array, linearisation: Any) -> Array:
        return _backward(risk, matrix, X, linearisation, _forward(risk, matrix, X, linearisation, V)[1])

    return _total(risk, matrix, linearisation, part)


def _forward(risk: EmpiricalRisk, matrix: Matrix, X: Array, linearisation: Any, V: Array) -> tuple[Array, Any]:
    if dense.has_formulas(risk.network):
        return dense.forward(risk.network, risk.theta, X, linearisation, V)
    if matrix == "hessian":
        whole = dense.one_by_one(linearisation, V)
        return jnp.sum(V * whole, axis=1), whole
    along, factors = linearisation
    Rf = dense.one_by_one(along, V)
    if risk.classes is None:
        return Rf**2 @ factors, factors * Rf
    blocks_Rf = jnp.einsum("ncd,knd->knc", factors, Rf)
    return jnp.einsum("knc,knc->k", Rf, blocks_Rf), blocks_Rf


def _backward(risk: EmpiricalRisk, matrix: Matrix, X: Array, linearisation: Any, intermediates: Any) -> Array:
    if dense.has_formulas(risk.network):
        return dense.backward(risk.network, risk.theta, X, linearisation, intermediates)
    if matrix == "hessian":
        return intermediates
    back = jax.linear_transpose(linearisation[0], risk.theta)
    return dense.one_by_one(lambda Rf: back(Rf)[0], intermediates)
