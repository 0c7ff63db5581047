"""Symmetric P × P matrices of a problem, and their blocks, that are known by their products with vectors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float
from scipy.sparse.linalg import LinearOperator

from nngp_prior.errors import InvalidInput
from nngp_prior.sharpness.networks import precisely
from nngp_prior.sharpness.problem import Problem

_PRODUCTS: dict[str, Callable[[Problem, Array, Array], Array]] = {
    "hessian": Problem.hvp,
    "ggn": Problem.ggnvp,
    "empirical-fisher": Problem.empirical_fisher_product,
}
COST = 2  # of a product, in gradients


@functools.partial(jax.tree_util.register_dataclass, data_fields=("problem",), meta_fields=("matrix", "start", "stop"))
@dataclass(frozen=True, eq=False)
class Operator:
    """A matrix at the problem's θ, or one of its diagonal blocks.

    Attributes:
        problem: what it is of.
        matrix: ``hessian``, ``ggn`` or ``empirical-fisher``.
        start: first row of the block.
        stop: the row after its last.
    """

    problem: Any  # a Problem, or what JAX puts in its place
    matrix: str
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Rows."""
        return self.stop - self.start

    def product(self, v: Float[Array, " size"]) -> Float[Array, " size"]:
        """The product with a vector, to be traced by JAX.

        Args:
            v: the vector.

        Returns:
            the product.
        """
        whole = _filled_up(v, self.start, self.problem.size)
        return _PRODUCTS[self.matrix](self.problem, self.problem.theta, whole)[self.start : self.stop]

    def __call__(self, v: Float[Array, " size"] | Float[np.ndarray, " size"]) -> Float[Array, " size"]:
        """The product; what is compiled is that of the whole matrix, once for all blocks and all measures."""
        with precisely():
            return self.product(jnp.asarray(v, self.problem.dtype))


@functools.partial(jax.jit, static_argnames=("start", "size"))
def _filled_up(v: Array, start: int, size: int) -> Array:
    """A vector with zeros around it."""
    return jnp.zeros(size, v.dtype).at[start : start + len(v)].set(v)


def operator_of(problem: Problem, matrix: str, layer: str | None = None) -> Operator:
    """A matrix of a problem.

    Args:
        problem: at the parameters at hand.
        matrix: which one.
        layer: whose block; the whole matrix when absent.

    Returns:
        the matrix.

    Raises:
        InvalidInput: another matrix, or there is no such layer.
    """
    if matrix not in _PRODUCTS:
        raise InvalidInput("matrix", f"got {matrix!r}", f"Choose one of {', '.join(_PRODUCTS)}.")
    return Operator(problem, matrix, *((0, problem.size) if layer is None else problem.network.slice_of(layer)))


def scipy_operator(operator: Operator) -> LinearOperator:
    """A matrix for SciPy, float64 outside.

    Args:
        operator: the matrix.

    Returns:
        what ``scipy.sparse.linalg`` takes.
    """

    def product(v: np.ndarray) -> np.ndarray:
        return np.asarray(operator(v.ravel()), dtype=np.float64)

    shape = (operator.size, operator.size)
    return LinearOperator(shape, matvec=product, rmatvec=product, dtype=np.float64)  # pyright: ignore[reportCallIssue]
