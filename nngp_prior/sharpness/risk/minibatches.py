"""Minibatches of a risk: their examples, risks and gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Integer

from nngp_prior.errors import InvalidInput
from nngp_prior.numerics.random import generator
from nngp_prior.sharpness.risk.chunked_inputs import Held, chunk_weights
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk


def check_pairs(n: int, batch: int) -> None:
    """Raise an error if minibatches are too large.

    Args:
        n: number of examples.
        batch: number of examples in a minibatch.

    Raises:
        InvalidInput: if two minibatches must have a common example.
    """
    if 2 * batch > n:
        problem = f"got {batch} where two minibatches have to fit into {n} examples"
        raise InvalidInput("batch", problem, f"Take at most {n // 2}." if n > 1 else "Take more data.")


def pairs_of_minibatches(
    rows: Integer[np.ndarray, " n"], batch: int, pairs: int, seed: int
) -> Iterator[Integer[np.ndarray, "2 batch"]]:
    """Draw pairs of minibatches without a common example, each pair independent of the others.

    Args:
        rows: indices of the examples to draw from.
        batch: number of examples in a minibatch.
        pairs: number of pairs.
        seed: random seed; pair i does not depend on the number of pairs.

    Yields:
        indices of the examples of both, (2, batch).
    """
    for i in range(pairs):
        yield generator(seed, "pair", i).choice(rows, 2 * batch, replace=False).reshape(2, batch)


def minibatch(risk: EmpiricalRisk, rows: Integer[Array, " batch"]) -> EmpiricalRisk:
    """Return the risk on a subset of the examples (JAX-traceable); otherwise use ``EmpiricalRisk.subset``.

    Args:
        risk: risk on all examples.
        rows: indices of the examples.

    Returns:
        the risk whose loss is the mean over them, in chunks no larger than those of ``risk``.
    """
    batch = len(rows)
    weights = chunk_weights(batch, risk.chunk)
    chosen = rows[np.where(weights > 0, np.arange(weights.size).reshape(weights.shape), 0)]
    inputs, labels = Held(risk.inputs.take(chosen)), risk.y[chosen]
    return replace(risk, inputs=inputs, labels=labels, weights=jnp.asarray(weights, risk.dtype), n=batch)


class Pair(NamedTuple):
    """Lengths of two gradients of different minibatches, and the cosine between them; 0 if undefined."""

    norms: tuple[float, float]
    cosine: float

    @property
    def contrast(self) -> float:
        """‖g₂‖ (1 - cos), averaged over both orders."""
        return sum(self.norms) / 2 * (1 - self.cosine)


def pair_of(inner: Float[np.ndarray, "2 2"], scales: tuple[float, float] = (1.0, 1.0)) -> Pair:
    """Compute lengths and cosine from inner products.

    Args:
        inner: inner products of two vectors with themselves and each other, (2, 2).
        scales: factors by which the vectors were divided to prevent under- and overflow of squares.

    Returns:
        lengths and cosine.
    """
    first, second = np.sqrt(np.diag(inner))
    cosine = float(np.clip(inner[0, 1] / (first * second), -1, 1)) if first * second else 0.0
    return Pair((float(first * scales[0]), float(second * scales[1])), cosine)


def scaled(gradient: Float[Array, " P"]) -> tuple[Float[Array, " P"], Float[Array, ""]]:
    """Divide a vector by its largest absolute entry; zero remains zero (JAX-traceable).

    Args:
        gradient: the vector.

    Returns:
        the scaled vector and the divisor.
    """
    scale = jnp.max(jnp.abs(gradient))
    return gradient / jnp.where(scale > 0, scale, 1), scale


@jax.jit
def minibatch_gradients(risk: EmpiricalRisk, rows: Integer[Array, "k batch"]) -> Float[Array, "k P"]:
    """Return ∇L_b of several minibatches, computed sequentially.

    Args:
        risk: risk on all examples.
        rows: indices of the examples of each minibatch.

    Returns:
        one gradient per minibatch.
    """
    return jax.lax.map(lambda each: minibatch(risk, each).gradient(risk.theta), rows)
