r"""Lanczos' method, a step at a time, with full reorthogonalisation.

.. math:: A Q_k = Q_k T_k + β_k q_{k+1} e_k^T, \qquad T_k = \mathrm{tridiag}(α_1 … α_k; β_1 … β_{k-1})

matfree does the same in a given number of steps; here convergence is watched, and a Krylov space that is exhausted
goes on with a new vector instead of dividing rounding errors by their length.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float
from scipy.linalg import eigh_tridiagonal

from nngp_prior.sharpness.networks import precisely
from nngp_prior.sharpness.operators import Operator

_FIRST_ROOM = 8  # vectors; doubled when they are used up
_LITTLE = 1e-2  # part of a vector's length
_EXHAUSTED = 1e3  # units of rounding of A's norm that a β has to exceed


class Lanczos:
    """The state of the method.

    Args:
        operator: A.
        start: the first vector, of any length but 0.
        rng: new vectors come from it where the Krylov space is exhausted.

    Attributes:
        finite: whether all products were.
        exhausted: whether the Krylov space of the first vector was: its quadrature is exact then.
    """

    def __init__(
        self, operator: Operator, start: Float[np.ndarray, " size"] | Float[Array, " size"], rng: np.random.Generator
    ) -> None:
        self._operator, self._rng = operator, rng
        self._alphas: list[float] = []
        self._betas: list[float] = []
        self.finite, self.exhausted = True, False
        dtype = operator.problem.dtype
        with precisely():
            self._q, self._Q = _first(jnp.asarray(start, dtype), min(_FIRST_ROOM, operator.size))

    @property
    def steps(self) -> int:
        """Products so far, k."""
        return len(self._alphas)

    @property
    def whole(self) -> bool:
        """Whether there is no further vector: all eigenvalues are there."""
        return self.steps == self._operator.size

    def step(self) -> None:
        """One product, unless the whole space is spanned."""
        with precisely():
            self._make_room()
            w = self._operator(self._q)
            self._Q, self._q, alpha, beta = _extended(self._Q, w, self._q, self.steps + 1)
        self._alphas.append(float(alpha))
        self._betas.append(float(beta))
        self.finite = bool(np.isfinite([self._alphas[-1], self._betas[-1]]).all())
        if not self.finite or self.whole:
            return
        norm = max(map(abs, self._alphas + self._betas[:-1]))
        if self._betas[-1] <= _EXHAUSTED * float(jnp.finfo(w.dtype).eps) * norm:
            self._betas[-1], self.exhausted = 0.0, True
            with precisely():
                random = jnp.asarray(self._rng.standard_normal(self._operator.size), w.dtype)
                Q = self._Q.at[self.steps].set(0)
                self._Q, self._q, _, _ = _extended(Q, random / jnp.linalg.norm(random), random, self.steps)

    def ritz(self) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
        """Eigenvalues of T_k.

        Returns:
            them in increasing order; for each the residual ‖A v - λ v‖ = β_k abs(e_kᵀ s), s its eigenvector; and the
            weight (e_1ᵀ s)² of the quadrature with the first vector.
        """
        values, S = eigh_tridiagonal(self._alphas, self._betas[:-1])
        beta = 0.0 if self.whole else self._betas[-1]
        return values, beta * np.abs(S[-1]), S[0] ** 2

    def _make_room(self) -> None:
        room = len(self._Q)
        if self.steps + 1 == room:
            more = min(room, self._operator.size - room)
            self._Q = jnp.concatenate([self._Q, jnp.zeros((more, self._Q.shape[1]), self._Q.dtype)])


@functools.partial(jax.jit, donate_argnums=0)
def _extended(Q: Array, w: Array, q: Array, k: Any) -> tuple[Array, Array, Array, Array]:
    """Q with w's part that is orthogonal to its rows, normalised, in row k if there is one; that; q·w; its length."""
    alpha, length = q @ w, jnp.linalg.norm(w)
    for _ in range(2):
        w = w - (Q @ w) @ Q
    beta = jnp.linalg.norm(w)
    w = w / jnp.where(beta > 0, beta, 1)

    def again(w: Array) -> Array:
        w = w - (Q @ w) @ Q
        return w / jnp.maximum(jnp.linalg.norm(w), jnp.finfo(w.dtype).tiny)

    # Where little was left, what is left is rounding; once more makes it orthogonal.
    w = lax.cond(beta > _LITTLE * length, lambda w: w, again, w)
    return Q.at[k].set(w), w, alpha, beta


@functools.partial(jax.jit, static_argnames="room")
def _first(start: Array, room: int) -> tuple[Array, Array]:
    """The normalised vector, and it among the rows."""
    q = start / jnp.linalg.norm(start)
    return q, jnp.zeros((room, len(q)), q.dtype).at[0].set(q)
