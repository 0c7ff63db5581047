"""Compiled update of all particles by one block: drawn under a mixture, with densities under every proposal."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Int

from nngp_prior.numerics.half_line import draw, log, positive_part
from nngp_prior.probability.proposals import ProposalBlock

_PART = 8  # coordinates whose means given the block's earlier ones are computed by one matrix product
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Coordinates(NamedTuple):
    """Fields of :class:`ProposalBlock`, and a mask: 1 for coordinates, 0 for padding."""

    L: Float[Any, "proposals block block"]
    conditional_deviation: Float[Any, "proposals block"]
    deviation: Float[Any, "proposals block"]
    slope: Float[Any, "proposals block"]
    offset: Float[Any, "proposals block"]
    quadratic: Float[Any, "proposals block"]
    linear: Float[Any, "proposals block"]
    constant: Float[Any, " proposals"]
    there: Float[Any, " block"]


class Followed(NamedTuple):
    """Whitened variables under each proposal, and increments of the particles' logarithms over one block."""

    epsilon: Float[Array, "proposals block columns"]
    log_target: Float[Array, " columns"]
    log_proposal: Float[Array, "proposals columns"]
    log_message: Float[Array, " columns"]


def padded(block: ProposalBlock, extra: int) -> Coordinates:
    """Return the block with ``extra`` coordinates that are N(0, 1) under every proposal, as NumPy arrays."""
    size = block.L.shape[1]

    def rows(x: np.ndarray, added: float) -> np.ndarray:
        return np.pad(x, ((0, 0), (0, extra)), constant_values=added) if extra else x

    return Coordinates(
        np.pad(block.L, ((0, 0), (0, extra), (0, extra))) if extra else block.L,
        rows(block.conditional_deviation, 1.0),
        rows(block.deviation, 1.0),
        rows(block.slope, 1.0),
        rows(block.offset, 0.0),
        rows(block.quadratic, 0.0),
        rows(block.linear, 0.0),
        block.constant,
        (np.arange(size + extra) < size).astype(np.float64),
    )


@jax.jit
def follow_block(
    block: Coordinates,
    means: Float[Array, "proposals block columns"],
    drawn_by: Int[Array, " columns"],
    guide: Int[Array, ""],
    log_u: Float[Array, "block columns"],
) -> Followed:
    """Draw a block's coordinates one after another under a mixture, and update densities under every proposal.

    Args:
        block: the block's data that do not depend on the particles.
        means: mean of each coordinate given the coordinates before the block.
        drawn_by: index of the proposal that draws each column.
        guide: index of the proposal whose message is updated.
        log_u: logarithms of uniform numbers.

    Returns:
        whitened variables and increments.
    """
    proposals, size, columns = means.shape

    def of_own(values: Array) -> Array:
        return functools.reduce(lambda own, j: jnp.where(drawn_by == j, values[j], own), range(1, proposals), values[0])

    def one(k: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
        offset, means_part, part, log_target, log_proposal, product, log_message = state
        i = offset + k
        row = lax.dynamic_slice(block.L[:, i], (0, offset), (proposals, _PART))
        m = means_part[:, k] + jnp.einsum("jk,jkc->jc", row, part)
        z = block.slope[:, i, None] * m - block.offset[:, i, None]
        positive = positive_part(z)
        g = of_own(block.deviation[:, i]) * draw(of_own(z), of_own(positive), log_u[i])
        epsilon = (g - m) / block.conditional_deviation[:, i, None]
        # log N(g; m', v') - log Φ(z), without √(2π v') and ``positive``
        t = g / block.deviation[:, i, None]
        there = block.there[i]
        log_proposal = log_proposal + there * (jnp.where(z < 0, t * z, (t - 0.5 * z) * z) - 0.5 * t * t)
        log_target = log_target - 0.5 * there * epsilon[0] ** 2
        m, z = m[guide], z[guide]
        log_message = log_message + m * (block.quadratic[guide, i] * m + block.linear[guide, i])
        log_message = log_message - jnp.where(z < 0, 0.5 * z * z, 0.0)
        product = product * jnp.where(there > 0, positive, 1.0)
        part = lax.dynamic_update_index_in_dim(part, epsilon, k, 1)
        return offset, means_part, part, log_target, log_proposal, product, log_message

    def one_part(p: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
        epsilon, log_target, log_proposal, log_message = state
        offset = p * _PART
        rows = lax.dynamic_slice_in_dim(block.L, offset, _PART, 1)
        means_part = lax.dynamic_slice_in_dim(means, offset, _PART, 1) + jnp.einsum("jik,jkc->jic", rows, epsilon)
        part, product = jnp.zeros((proposals, _PART, columns)), jnp.ones((proposals, columns))
        start = (offset, means_part, part, log_target, log_proposal, product, log_message)
        _, _, part, log_target, log_proposal, product, log_message = lax.fori_loop(0, _PART, one, start)
        log_product = log(product)
        epsilon = lax.dynamic_update_slice_in_dim(epsilon, part, offset, 1)
        return epsilon, log_target, log_proposal - log_product, log_message + log_product[guide]

    state = (jnp.zeros_like(means), jnp.zeros(columns), jnp.zeros((proposals, columns)), jnp.zeros(columns))
    epsilon, log_target, log_proposal, log_message = lax.fori_loop(0, size // _PART, one_part, state)
    count = block.there.sum()
    log_target -= jnp.log(block.conditional_deviation[0]).sum() + count * _HALF_LOG_2PI
    log_proposal -= jnp.log(block.deviation).sum(axis=1)[:, None] + count * _HALF_LOG_2PI
    return Followed(epsilon, log_target, log_proposal, log_message + block.constant[guide])
