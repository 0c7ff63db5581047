"""Symmetric P × P matrices of a risk, and their diagonal blocks, as matrix-free operators."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Real
from scipy.sparse.linalg import LinearOperator

from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.measures.curvature import Matrix
from nngp_prior.sharpness.curvature import products
from nngp_prior.sharpness.curvature.dense_networks import bytes_a_vector, has_formulas
from nngp_prior.sharpness.curvature.products import FACTORS
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.networks import high_precision

COST = 2  # cost of a product, in gradients
START_COST = 1  # cost of a vector near the leading eigenvector, in gradients
_RANDOM = 0.05  # length of its random component, relative to the rest
_VECTORS = 10  # maximal number of vectors whose products are computed together
_VECTOR_BYTES = 2**27  # memory of these vectors


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=("risk", "linearisation"), meta_fields=("matrix", "start", "stop")
)
@dataclass(frozen=True, eq=False)
class Operator:
    """A matrix at the risk's θ, or one of its diagonal blocks.

    Attributes:
        risk: risk of which this is a matrix.
        linearisation: part shared by all products if the data are one chunk; None with more chunks, so that memory is
            bounded by the chunk.
        matrix: ``hessian``, ``ggn`` or ``empirical-fisher``.
        start: first row of the block.
        stop: index after its last row.
    """

    risk: Any  # an EmpiricalRisk, or a placeholder of JAX
    linearisation: Any
    matrix: Matrix
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.stop - self.start

    @property
    def has_formulas(self) -> bool:
        """True if products use the formulas of fully connected networks, with the shared linearisation in memory."""
        return self.linearisation is not None and self.size == self.risk.size and has_formulas(self.risk.network)

    @property
    def vectors_at_once(self) -> int:
        """Number of vectors whose products are computed together to save passes over the data."""
        risk = self.risk
        if has_formulas(risk.network):
            return max(1, min(_VECTORS, _VECTOR_BYTES // (risk.chunk * bytes_a_vector(risk.network, risk.dtype))))
        # With several chunks, each pass linearises the network at each chunk again, once for all vectors.
        return 1 if risk.in_one_chunk else max(1, min(_VECTORS, _VECTOR_BYTES // (risk.size * risk.dtype.itemsize)))

    @property
    def half_saved(self) -> int:
        """Cost of the second half of a product, in gradients; 0 if the first half is the whole product."""
        return COST // 2 if products.come_in_halves(self.risk, self.matrix, self.linearisation) else 0

    @property
    def cost_of_quadratic(self) -> int:
        """Cost of vᵀ A v, in gradients."""
        return COST - self.half_saved

    def product(self, v: Float[Array, " size"]) -> Float[Array, " size"]:
        """Compute the product with a vector (JAX-traceable).

        Args:
            v: the vector.

        Returns:
            the product.
        """
        return self.narrow(products.product(self.risk, self.matrix, self.linearisation, self.widen(v)))

    def __call__(self, v: Float[Array, " size"] | Real[np.ndarray, " size"]) -> Float[Array, " size"]:
        """Compute the product; compiled for the whole matrix, once for all blocks and all measures."""
        with high_precision():
            v = jnp.asarray(v, self.risk.dtype)
            return self.narrow(_product(self.risk, self.matrix, self.linearisation, self.widen(v)))

    def quadratics(self, V: Float[Array, "k size"] | Real[np.ndarray, "k size"]) -> Float[Array, " k"]:
        """Compute vᵀ A v of several vectors.

        Args:
            V: vectors, (k, size).

        Returns:
            (k,) numbers.
        """
        with high_precision():
            V = self.widen(jnp.asarray(V, self.risk.dtype))
            return _quadratics(self.risk, self.matrix, self.linearisation, V)

    def forward(self, vectors: Sequence[Float[Array, " size"]]) -> tuple[Float[Array, " k"], Any]:
        """Compute vᵀ A v of several vectors, and the first half of their products.

        Args:
            vectors: k vectors, in the dtype of the risk.

        Returns:
            the numbers, and the intermediates for :meth:`backward`.
        """
        with high_precision():
            return _forward(self.risk, self.matrix, self.linearisation, [self.widen(v) for v in vectors])

    def backward(self, intermediates: Any) -> list[Float[Array, " size"]]:
        """Compute the second half of the products.

        Args:
            intermediates: as :meth:`forward` returned them.

        Returns:
            one product per vector.
        """
        with high_precision():
            return [
                self.narrow(whole) for whole in _backward(self.risk, self.matrix, self.linearisation, intermediates)
            ]

    def widen(self, v: Array) -> Array:
        """Pad one or several vectors with zeros to the length of θ."""
        return v if self.size == self.risk.size else _filled_up(v, self.start, self.risk.size)

    def narrow(self, whole: Array) -> Array:
        """Select the entries of the block's rows."""
        return whole if self.size == self.risk.size else whole[self.start : self.stop]

    def block(self, layer: str) -> Operator:
        """Return a layer's diagonal block.

        Args:
            layer: name of the layer.

        Returns:
            the block.

        Raises:
            InvalidInput: if there is no such layer.
        """
        start, stop = self.risk.network.slice_of(layer)
        return replace(self, start=start, stop=stop)

    def start_vector(self, random: Float[np.ndarray, " size"]) -> Float[Array, " size"]:
        r"""Return a vector that is usually near the eigenvector of the largest eigenvalue.

        .. math:: J^T C 1, \qquad J^T C J = \sum_i w_i c_i ∇f_i ∇f_i^T, \quad C = \mathrm{diag}(w_i c_i)

        :math:`J^T C J` has the eigenvalues of :math:`\sqrt C J J^T \sqrt C`, in which :math:`J J^T` is the tangent
        kernel of the finite network. Its entries are usually positive, and the more similar they are the nearer is
        :math:`\sqrt C 1` to the leading eigenvector (Perron-Frobenius theorem), which :math:`J^T \sqrt C` maps to that
        of :math:`J^T C J`.

        Args:
            random: a vector, added with a twentieth of the length, for a component along all eigenvectors.

        Returns:
            the vector, of any non-zero length.
        """
        with high_precision():
            near = self.narrow(_near_leading(self.risk, self.matrix, self.linearisation))
            return mixed(near, jnp.asarray(random, self.risk.dtype))


@functools.partial(jax.jit, static_argnames="matrix")
def _product(risk: EmpiricalRisk, matrix: Matrix, linearisation: Any, v: Array) -> Array:
    return products.product(risk, matrix, linearisation, v)


@functools.partial(jax.jit, static_argnames="matrix")
def _quadratics(risk: EmpiricalRisk, matrix: Matrix, linearisation: Any, V: Array) -> Array:
    return products.quadratics(risk, matrix, linearisation, V)


@functools.partial(jax.jit, static_argnames="matrix")
def _forward(risk: EmpiricalRisk, matrix: Matrix, linearisation: Any, vectors: list[Array]) -> tuple[Array, Any]:
    return products.forward(risk, matrix, linearisation, jnp.stack(vectors))


@functools.partial(jax.jit, static_argnames="matrix")
def _backward(risk: EmpiricalRisk, matrix: Matrix, linearisation: Any, intermediates: Any) -> list[Array]:
    return list(products.backward(risk, matrix, linearisation, intermediates))


@functools.partial(jax.jit, static_argnames="matrix")
def _linearisation(risk: EmpiricalRisk, matrix: Matrix) -> Any:
    return products.linearise(risk, matrix)


@functools.partial(jax.jit, static_argnames=("start", "size"))
def _filled_up(v: Array, start: int, size: int) -> Array:
    return jnp.zeros((*v.shape[:-1], size), v.dtype).at[..., start : start + v.shape[-1]].set(v)


@functools.partial(jax.jit, static_argnames="matrix")
def _near_leading(risk: EmpiricalRisk, matrix: Matrix, linearisation: Any) -> Array:
    return products.start_vector(risk, matrix, linearisation)


@jax.jit
def mixed(near: Float[Array, " size"], random: Float[Array, " size"]) -> Float[Array, " size"]:
    """Add a random component to a vector; see :meth:`Operator.start_vector`.

    Args:
        near: the vector; ignored if it is zero or not finite.
        random: the random vector.

    Returns:
        their sum, of any non-zero length.
    """
    length = jnp.linalg.norm(near)
    usable = jnp.isfinite(length) & (length > 0)
    return _RANDOM * random / jnp.linalg.norm(random) + jnp.where(usable, near / jnp.where(usable, length, 1), 0)


def operator_of(risk: EmpiricalRisk, matrix: str, layer: str | None = None) -> Operator:
    """Return a matrix of a risk.

    Args:
        risk: empirical risk at the parameters of the matrix.
        matrix: name of the matrix.
        layer: name of a layer, for its diagonal block. Default: the whole matrix.

    Returns:
        the matrix.

    Raises:
        InvalidInput: if the matrix is unknown, or there is no such layer.
    """
    if matrix not in FACTORS:
        raise InvalidInput("matrix", f"got {matrix!r}", f"Choose one of {', '.join(FACTORS)}.")
    known_name = cast(Matrix, matrix)
    with high_precision():
        whole = Operator(risk, _linearisation(risk, known_name), known_name, 0, risk.size)
    return whole if layer is None else whole.block(layer)


def hessian(risk: EmpiricalRisk, layer: str | None = None) -> Operator:
    """Hessian H of the loss at the risk's parameters.

    Args:
        risk: empirical risk with P parameters.
        layer: name of a layer, for its diagonal block; default: the whole matrix.

    Returns:
        the (P, P) operator; call it with a vector for the product.

    Raises:
        InvalidInput: if there is no such layer.
    """
    return operator_of(risk, "hessian", layer)


def ggn(risk: EmpiricalRisk, layer: str | None = None) -> Operator:
    r"""Generalised Gauss-Newton matrix G of the loss at the risk's parameters.

    .. math:: G = \frac1n \sum_i \ell''(f_i)\, ∇f_i ∇f_i^T

    G is the Fisher information of the model whose negative log likelihood is the loss: for cross-entropy
    ℓ'' = σ(f) (1 - σ(f)), or with C outputs diag p - ppᵀ, p the softmax of f; for the squared error of labels with
    variance 1/2, ℓ'' = 2.

    Args:
        risk: as for :func:`hessian`.
        layer: as for :func:`hessian`.

    Returns:
        the operator.

    Raises:
        InvalidInput: if there is no such layer.
    """
    return operator_of(risk, "ggn", layer)


def empirical_fisher(risk: EmpiricalRisk, layer: str | None = None) -> Operator:
    r"""Empirical Fisher matrix F̂: second moment of the gradients of the examples with the labels given.

    .. math:: F̂ = \frac1n \sum_i \ell'(f_i)^2\, ∇f_i ∇f_i^T

    Args:
        risk: as for :func:`hessian`.
        layer: as for :func:`hessian`.

    Returns:
        the operator.

    Raises:
        InvalidInput: if there is no such layer.
    """
    return operator_of(risk, "empirical-fisher", layer)


def as_scipy(operator: Operator) -> LinearOperator:
    """Convert an operator for SciPy's solvers.

    Args:
        operator: the matrix.

    Returns:
        linear operator for ``scipy.sparse.linalg``, with vectors in float64.
    """

    def product(v: np.ndarray) -> np.ndarray:
        return np.asarray(operator(v.ravel()), dtype=np.float64)

    shape = (operator.size, operator.size)
    return LinearOperator(shape, matvec=product, rmatvec=product, dtype=np.float64)  # pyright: ignore[reportCallIssue]
