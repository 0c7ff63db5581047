r"""Lanczos' method, step by step, with full reorthogonalisation.

.. math:: A Q_k = Q_k T_k + β_k q_{k+1} e_k^T, \qquad T_k = \mathrm{tridiag}(α_1 … α_k; β_1 … β_{k-1})

matfree does the same for a fixed number of steps; here convergence is tested between steps, and if a Krylov space is
exhausted, the method continues with a new vector instead of normalising rounding errors.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Real
from scipy.linalg import eigh_tridiagonal

from nngp_prior.schemas.measures.curvature import Matrix
from nngp_prior.sharpness.curvature import products
from nngp_prior.sharpness.curvature.operators import COST, Operator, mixed
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.networks import high_precision

_FIRST_ROOM = 8  # number of vectors; doubled when used up, by at most this many
_MORE_ROOM = 32
_LITTLE = 1e-2  # fraction of a vector's length
_EXHAUSTED = 1e3  # lower limit of β, in units of rounding of A's norm


@dataclass(frozen=True, eq=False)
class Quadrature:
    """Gauss quadrature from one starting vector.

    Attributes:
        alphas: diagonal of T_k.
        betas: off-diagonal of T_k.
        exact: True if the Krylov space of the starting vector was exhausted.
    """

    alphas: Float[np.ndarray, " k"]
    betas: Float[np.ndarray, " k-1"]
    exact: bool

    def rule(self, steps: int | None = None) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
        """Compute nodes and weights.

        Args:
            steps: number of Lanczos steps to use; default: all.

        Returns:
            the nodes in increasing order, and their weights; NaN if a product was not finite.
        """
        alphas, betas = self.alphas[:steps], self.betas[: len(self.alphas[:steps]) - 1]
        if not (np.isfinite(alphas).all() and np.isfinite(betas).all()):
            return np.array([math.nan]), np.array([math.nan])
        nodes, S = eigh_tridiagonal(alphas, betas)
        return nodes, S[0] ** 2


class Lanczos:
    """State of Lanczos' method.

    Args:
        operator: A.
        first: a vector of length 1, zeros, and an array of rows of which the first is the vector.
        rng: random generator of new vectors when the Krylov space is exhausted.

    Attributes:
        exhausted: True if the Krylov space of the first vector was exhausted; its quadrature is then exact.
    """

    def __init__(self, operator: Operator, first: tuple[Array, Array, Array], rng: np.random.Generator) -> None:
        self._operator, self._rng = operator, rng
        self._alphas: list[float] = []
        self._betas: list[float] = []
        self._last_alpha: tuple[Array, int] | None = None  # read late, since reading waits
        self._intermediates: Any = None
        self._decomposed: Any = None  # decomposition of T_k, valid until k changes
        self._finite, self.exhausted = True, False
        self._q, self._before, self._Q = first

    @classmethod
    def from_vector(
        cls, operator: Operator, start: Real[np.ndarray, " size"] | Float[Array, " size"], rng: np.random.Generator
    ) -> Lanczos:
        """Create the method from a start vector, before the first step.

        Args:
            operator: A.
            start: the first vector, of any non-zero length.
            rng: as for the class.

        Returns:
            the method.
        """
        with high_precision():
            start = jnp.asarray(start, operator.risk.dtype)
            return cls(operator, _first(start, min(_FIRST_ROOM, operator.size)), rng)

    @classmethod
    def start_vector(cls, operator: Operator, random: Float[np.ndarray, " size"], rng: np.random.Generator) -> Lanczos:
        """Create from :meth:`Operator.start_vector`; if products take milliseconds, two steps are done here.

        Args:
            operator: A.
            random: a vector with a component along all eigenvectors.
            rng: as for the class.

        Returns:
            the method.
        """
        if not operator.has_formulas or operator.size == 1:
            return cls.from_vector(operator, operator.start_vector(random), rng)
        with high_precision():
            linearisation, random_ = operator.linearisation, jnp.asarray(random, operator.risk.dtype)
            found = _two_steps(operator.risk, operator.matrix, linearisation, random_, min(_FIRST_ROOM, operator.size))
        q, before, Q, alphas, following, lengths, ahead = found
        method = cls(operator, (following, before, Q), rng)
        method._add_alpha(alphas, 0, None)
        _go_on([method], [(q, *lengths)], ahead)
        return method

    @property
    def steps(self) -> int:
        """Number of products k so far; the last one may be half done."""
        return len(self._alphas) + (self._last_alpha is not None)

    @property
    def gradients(self) -> int:
        """Cost of the products, in gradients."""
        return COST * self.steps - (self._operator.half_saved if self._intermediates is not None else 0)

    @property
    def finite(self) -> bool:
        """True if all products were finite."""
        self._read_alpha()
        return self._finite

    @property
    def whole(self) -> bool:
        """True if the Krylov vectors span the whole space: all eigenvalues are known."""
        return self.steps == self._operator.size

    def step(self) -> None:
        """Complete the previous product if pending, then compute one more α, the first half of a product."""
        step_together([self])

    def complete(self) -> None:
        """Complete the last product if pending, unless the whole space is spanned."""
        complete_together([self])

    def _add_alpha(self, alphas: Array, place: int, intermediates: Any) -> None:
        self._last_alpha, self._intermediates, self._decomposed = (alphas, place), intermediates, None

    def _read_alpha(self) -> None:
        if self._last_alpha is not None:
            alphas, place = self._last_alpha
            self._alphas.append(float(np.asarray(alphas)[place]))
            self._last_alpha, self._finite = None, self._finite and math.isfinite(self._alphas[-1])

    def _add_beta(self, q: Array, length: Array, beta: Array) -> bool:
        """Append β, the divisor of the next vector; q is the one before. Return True if the next one was replaced."""
        self._read_alpha()
        self._intermediates, self._before = None, q
        self._betas.append(float(beta))
        self._finite = self._finite and math.isfinite(self._betas[-1])
        changed = self._betas[-1] <= _LITTLE * float(length)
        if changed:  # in part rounding: orthogonalise once more
            self._extend(self._q)
        norm = max(map(abs, self._alphas + self._betas[:-1]))
        if self._betas[-1] <= _EXHAUSTED * float(jnp.finfo(q.dtype).eps) * norm:
            self._betas[-1], self.exhausted = 0.0, True
            self._extend(jnp.asarray(self._rng.standard_normal(self._operator.size), q.dtype))
            self._extend(self._q)
            changed = True
        return changed

    def _extend(self, w: Array, first: tuple[Array, ...] = ()) -> tuple[Array, Array]:
        """Append the part of w orthogonal to all vectors; return the lengths of w and of the part."""
        self._make_room()
        self._Q, self._q, length, beta = _extended(self._Q, w, first, self.steps)
        return length, beta

    def ritz(self) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
        """Compute the eigenvalues of T_k.

        Returns:
            the eigenvalues in increasing order; for each the residual ‖A v - λ v‖ = β_k abs(e_kᵀ s), s its eigenvector.
            While the last product is half done, β_k is replaced by half of the distance between the extreme eigenvalues
            of T_k, which never exceeds half of that between A's. A single NaN each if a product was not finite.
        """
        if not self.finite:
            unknown = np.array([math.nan])
            return unknown, unknown
        if self._decomposed is None:
            self._decomposed = eigh_tridiagonal(self._alphas, self._betas[: self.steps - 1])
        values, S = self._decomposed
        if self.whole:
            beta = 0.0
        elif self._intermediates is None:
            beta = self._betas[-1]
        else:
            beta = (values[-1] - values[0]) / 2 if self.steps > 1 else math.inf
        return values, beta * np.abs(S[-1])

    def quadrature(self) -> Quadrature:
        """Return the quadrature after the steps so far; its entries are NaN if a product was not finite."""
        unknown = np.full(self.steps, math.nan)
        alphas, betas = (np.array(self._alphas), np.array(self._betas)) if self.finite else (unknown, unknown)
        betas = betas[: self.steps - 1]
        return Quadrature(alphas, betas, self.exhausted or self.whole)

    def _make_room(self) -> None:
        room = len(self._Q)
        if self.steps == room:
            more = min(room, _MORE_ROOM, self._operator.size - room)
            self._Q = jnp.concatenate([self._Q, jnp.zeros((more, self._Q.shape[1]), self._Q.dtype)])


def step_together(methods: Sequence[Lanczos]) -> None:
    """Do one step of several methods with the same matrix and number of steps, computing their products together.

    Args:
        methods: the methods. No-op if there are no further vectors, or a product was not finite.
    """
    if _ended(methods):
        return
    extended = _extended_together(methods)
    # All work is dispatched before the first number is waited for.
    _go_on(methods, extended, methods[0]._operator.forward([method._q for method in methods]))


def complete_together(methods: Sequence[Lanczos]) -> None:
    """Complete the last products of several methods if pending, unless the whole space is spanned.

    Args:
        methods: as for :func:`step_together`.
    """
    _add_betas(methods, _extended_together(methods))


def _ended(methods: Sequence[Lanczos]) -> bool:
    """True if there are no further vectors, or no method has only finite products."""
    return methods[0].whole or not any(method._finite for method in methods)


def _extended_together(methods: Sequence[Lanczos]) -> list[tuple[Array, Array, Array]]:
    """For each method the previous vector, lengths of the product and of its new part; empty if not pending."""
    first = methods[0]
    if first._intermediates is None or _ended(methods):
        return []
    with high_precision():
        before = [method._q for method in methods]
        products = first._operator.backward(first._intermediates)
        lengths = [method._extend(w, (method._q, method._before)) for method, w in zip(methods, products, strict=True)]
        return [(q, *of_each) for q, of_each in zip(before, lengths, strict=True)]


def _go_on(methods: Sequence[Lanczos], extended: list[tuple[Array, Array, Array]], ahead: tuple[Array, Any]) -> None:
    """Append betas and the next alphas; ``ahead`` is the first half of the next step."""
    if _add_betas(methods, extended):
        ahead = methods[0]._operator.forward([method._q for method in methods])
    alphas, intermediates = ahead
    for place, method in enumerate(methods):
        method._add_alpha(alphas, place, intermediates)


def _add_betas(methods: Sequence[Lanczos], extended: list[tuple[Array, Array, Array]]) -> bool:
    """Append betas; return True if some of the next vectors were replaced."""
    with high_precision():
        changed = [method._add_beta(*each) for method, each in zip(methods, extended, strict=False)]
    return any(changed)


@functools.partial(jax.jit, donate_argnums=0)
def _extended(Q: Array, w: Array, first: tuple[Array, ...], k: Any) -> tuple[Array, Array, Array, Array]:
    """Append to Q in row k, if it exists, the normalised part of w orthogonal to the first k rows.

    Most of the rest of w lies in ``first``, so that one pass against all rows is as accurate as two.

    Returns:
        Q, the part, and the lengths of w and of the part.
    """
    length = jnp.linalg.norm(w)
    for each in first:
        w = w - (each @ w) * each
    w = w - jnp.where(jnp.arange(len(Q)) < k, Q @ w, 0) @ Q
    beta = jnp.linalg.norm(w)
    w = w / jnp.where(beta > 0, beta, 1)
    return Q.at[k].set(w), w, length, beta


@functools.partial(jax.jit, static_argnames="room")
def _first(start: Array, room: int) -> tuple[Array, Array, Array]:
    """Normalised start vector, zeros for its predecessor, and rows that begin with it."""
    q = start / jnp.linalg.norm(start)
    return q, jnp.zeros_like(q), jnp.zeros((room, len(q)), q.dtype).at[0].set(q)


@functools.partial(jax.jit, static_argnames=("matrix", "room"))
def _two_steps(risk: EmpiricalRisk, matrix: Matrix, linearisation: Any, random: Array, room: int) -> Any:
    """One step and the first half of the next.

    Returns:
        first vector, zeros, rows; α; second vector; lengths as from :func:`_extended`; and the result of ``forward``.
    """
    q, before, Q = _first(mixed(products.start_vector(risk, matrix, linearisation), random), room)
    alphas, intermediates = products.forward(risk, matrix, linearisation, q[None])
    w = products.backward(risk, matrix, linearisation, intermediates)[0]
    Q, following, length, beta = _extended(Q, w, (q, before), 1)
    ahead = products.forward(risk, matrix, linearisation, following[None])
    return q, before, Q, alphas, following, (length, beta), ahead
