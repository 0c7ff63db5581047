"""Symmetric P × P matrices of a risk, and their blocks, that are known by their products with vectors."""

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

COST = 2  # of a product, in gradients
START_COST = 1  # of a vector near the leading eigenvector, likewise
_RANDOM = 0.05  # of that vector's length
_VECTORS = 10  # whose products are found together at most
_VECTOR_BYTES = 2**27  # what they take


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=("risk", "linearisation"), meta_fields=("matrix", "start", "stop")
)
@dataclass(frozen=True, eq=False)
class Operator:
    """A matrix at the risk's θ, or one of its diagonal blocks.

    Attributes:
        risk: what it is of.
        linearisation: part shared by all products if the data are one chunk; None with more chunks, so that memory is
            bounded by the chunk.
        matrix: ``hessian``, ``ggn`` or ``empirical-fisher``.
        start: first row of the block.
        stop: the row after its last.
    """

    risk: Any  # a EmpiricalRisk, or what JAX puts in its place
    linearisation: Any
    matrix: Matrix
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Rows."""
        return self.stop - self.start

    @property
    def has_formulas(self) -> bool:
        """True if its products are those of fully connected networks, with what they have in common at hand."""
        return self.linearisation is not None and self.size == self.risk.size and has_formulas(self.risk.network)

    @property
    def vectors_at_once(self) -> int:
        """Number of vectors whose products are computed together to save passes over the data."""
        risk = self.risk
        if has_formulas(risk.network):
            return max(1, min(_VECTORS, _VECTOR_BYTES // (risk.chunk * bytes_a_vector(risk.network, risk.dtype))))
        # Each pass over several chunks linearises the network at each of them anew, once for all vectors.
        return 1 if risk.in_one_chunk else max(1, min(_VECTORS, _VECTOR_BYTES // (risk.size * risk.dtype.itemsize)))

    @property
    def half_saved(self) -> int:
        """What the second half of a product costs, in gradients: none where the first half is the whole product."""
        return COST // 2 if products.come_in_halves(self.risk, self.matrix, self.linearisation) else 0

    @property
    def cost_of_quadratic(self) -> int:
        """What vᵀ A v costs, in gradients."""
        return COST - self.half_saved

    def product(self, v: Float[Array, " size"]) -> Float[Array, " size"]:
        """The product with a vector (JAX-traceable).

        Args:
            v: the vector.

        Returns:
            the product.
        """
        return self.narrow(products.product(self.risk, self.matrix, self.linearisation, self.widen(v)))

    def __call__(self, v: Float[Array, " size"] | Real[np.ndarray, " size"]) -> Float[Array, " size"]:
        """The product; what is compiled is that of the whole matrix, once for all blocks and all measures."""
        with high_precision():
            v = jnp.asarray(v, self.risk.dtype)
            return self.narrow(_product(self.risk, self.matrix, self.linearisation, self.widen(v)))

    def quadratics(self, V: Float[Array, "k size"] | Real[np.ndarray, "k size"]) -> Float[Array, " k"]:
        """vᵀ A v of several vectors.

        Args:
            V: the vectors.

        Returns:
            the numbers.
        """
        with high_precision():
            V = self.widen(jnp.asarray(V, self.risk.dtype))
            return _quadratics(self.risk, self.matrix, self.linearisation, V)

    def forward(self, vectors: Sequence[Float[Array, " size"]]) -> tuple[Float[Array, " k"], Any]:
        """vᵀ A v of several vectors, and their products half done.

        Args:
            vectors: k of them, in the risk's type.

        Returns:
            the numbers, and what :meth:`backward` goes on with.
        """
        with high_precision():
            return _forward(self.risk, self.matrix, self.linearisation, [self.widen(v) for v in vectors])

    def backward(self, intermediates: Any) -> list[Float[Array, " size"]]:
        """The products.

        Args:
            intermediates: as :meth:`forward` returned them.

        Returns:
            one a vector.
        """
        with high_precision():
            return [
                self.narrow(whole) for whole in _backward(self.risk, self.matrix, self.linearisation, intermediates)
            ]

    def widen(self, v: Array) -> Array:
        """A vector, or several, with zeros around, as long as θ."""
        return v if self.size == self.risk.size else _filled_up(v, self.start, self.risk.size)

    def narrow(self, whole: Array) -> Array:
        """The entries of the block's rows."""
        return whole if self.size == self.risk.size else whole[self.start : self.stop]

    def block(self, layer: str) -> Operator:
        """A layer's block.

        Args:
            layer: its name.

        Returns:
            the block.

        Raises:
            InvalidInput: there is no such layer.
        """
        start, stop = self.risk.network.slice_of(layer)
        return replace(self, start=start, stop=stop)

    def start_vector(self, random: Float[np.ndarray, " size"]) -> Float[Array, " size"]:
        r"""A vector near the eigenvector of the largest eigenvalue, as a rule.

        .. math:: J^T C 1, \qquad J^T C J = \sum_i w_i c_i ∇f_i ∇f_i^T, \quad C = \mathrm{diag}(w_i c_i)

        :math:`J^T C J` has the eigenvalues of :math:`\sqrt C J J^T \sqrt C`, in which :math:`J J^T` is the tangent
        kernel of the finite network. Its entries are positive as a rule, and the more alike they are the nearer is
        :math:`\sqrt C 1` to the leading eigenvector (the theorem of Perron and Frobenius), which :math:`J^T \sqrt C`
        takes to that of :math:`J^T C J`.

        Args:
            random: a vector, a twentieth as long as the rest in the end, so that there is a share of all eigenvectors.

        Returns:
            the vector, of any length but 0.
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
    """A vector with a share of a random one, as of :meth:`Operator.start_vector`.

    Args:
        near: the vector; left out where it is zero or not finite.
        random: the other one.

    Returns:
        their sum, of any length but 0.
    """
    length = jnp.linalg.norm(near)
    usable = jnp.isfinite(length) & (length > 0)
    return _RANDOM * random / jnp.linalg.norm(random) + jnp.where(usable, near / jnp.where(usable, length, 1), 0)


def operator_of(risk: EmpiricalRisk, matrix: str, layer: str | None = None) -> Operator:
    """A matrix of a risk.

    Args:
        risk: at the parameters at hand.
        matrix: which one.
        layer: whose block; the whole matrix when absent.

    Returns:
        the matrix.

    Raises:
        InvalidInput: another matrix, or there is no such layer.
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
    ℓ'' = σ(f) (1 - σ(f)); for the squared error of labels with variance 1/2, ℓ'' = 2.

    Args:
        risk: as for :func:`hessian`.
        layer: likewise.

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
        layer: likewise.

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
