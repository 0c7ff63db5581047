"""Minibatches of a risk: their examples, their problems, and their gradients."""

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
    """Refuse minibatches that are too large.

    Args:
        n: examples that there are.
        batch: examples in a minibatch.

    Raises:
        InvalidInput: two of them have a common example.
    """
    if 2 * batch > n:
        problem = f"got {batch} where two minibatches have to fit into {n} examples"
        raise InvalidInput("batch", problem, f"Take at most {n // 2}." if n > 1 else "Take more data.")


def pairs_of_minibatches(
    rows: Integer[np.ndarray, " n"], batch: int, pairs: int, seed: int
) -> Iterator[Integer[np.ndarray, "2 batch"]]:
    """Pairs of minibatches without a common example, each pair independent of the others.

    Args:
        rows: examples to draw from.
        batch: examples in a minibatch.
        pairs: how many.
        seed: pair i is the same however many there are.

    Yields:
        examples of both.
    """
    for i in range(pairs):
        yield generator(seed, "pair", i).choice(rows, 2 * batch, replace=False).reshape(2, batch)


def minibatch(risk: EmpiricalRisk, rows: Integer[Array, " batch"]) -> EmpiricalRisk:
    """The risk on some of the examples, to be traced by JAX; outside, ``EmpiricalRisk.subset`` does the same.

    Args:
        risk: on all examples.
        rows: which ones.

    Returns:
        the risk whose loss is the mean over them, in chunks that are no larger.
    """
    batch = len(rows)
    weights = chunk_weights(batch, risk.chunk)
    chosen = rows[np.where(weights > 0, np.arange(weights.size).reshape(weights.shape), 0)]
    inputs, labels = Held(risk.inputs.take(chosen)), risk.y[chosen]
    return replace(risk, inputs=inputs, labels=labels, weights=jnp.asarray(weights, risk.dtype), n=batch)


class Pair(NamedTuple):
    """Two gradients, of any two minibatches, by their lengths and the cosine between them; 0 where there is none."""

    norms: tuple[float, float]
    cosine: float

    @property
    def contrast(self) -> float:
        """‖g₂‖ (1 - cos), the mean of both orders."""
        return sum(self.norms) / 2 * (1 - self.cosine)


def pair_of(inner: Float[np.ndarray, "2 2"], scales: tuple[float, float] = (1.0, 1.0)) -> Pair:
    """Lengths and cosine from inner products.

    Args:
        inner: products of two vectors with themselves and each other.
        scales: what the vectors were divided by, so that their squares neither under- nor overflow.

    Returns:
        both.
    """
    first, second = np.sqrt(np.diag(inner))
    cosine = float(np.clip(inner[0, 1] / (first * second), -1, 1)) if first * second else 0.0
    return Pair((float(first * scales[0]), float(second * scales[1])), cosine)


def scaled(gradient: Float[Array, " P"]) -> tuple[Float[Array, " P"], Float[Array, ""]]:
    """A vector whose largest entry is ±1, and what it was divided by; zero stays zero. To be traced by JAX.

    Args:
        gradient: the vector.

    Returns:
        both.
    """
    scale = jnp.max(jnp.abs(gradient))
    return gradient / jnp.where(scale > 0, scale, 1), scale


@jax.jit
def minibatch_gradients(risk: EmpiricalRisk, rows: Integer[Array, "k batch"]) -> Float[Array, "k P"]:
    """∇L_b of some minibatches, one after another.

    Args:
        risk: on all examples.
        rows: those of each minibatch.

    Returns:
        one gradient each.
    """
    return jax.lax.map(lambda each: minibatch(risk, each).gradient(risk.theta), rows)
