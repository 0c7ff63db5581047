"""A block of coordinates of all particles, compiled: drawn under a mixture, densities followed under every proposal."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float, Int

from nngp_prior.numerics.half_line import draw, log, positive_part

_PART = 8  # of a block; as far as the earlier parts decide them, likewise
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class BlockArrays(NamedTuple):
    """The numbers of a :class:`~nngp_prior.probability.proposals.Block`, named as there."""

    L: Float[np.ndarray, "proposals size size"]
    conditional_deviation: Float[np.ndarray, "proposals size"]
    deviation: Float[np.ndarray, "proposals size"]
    slope: Float[np.ndarray, "proposals size"]
    offset: Float[np.ndarray, "proposals size"]
    quadratic: Float[np.ndarray, "proposals size"]
    linear: Float[np.ndarray, "proposals size"]
    constant: Float[np.ndarray, " proposals"]


class Followed(NamedTuple):
    """Changes of the particles' logarithms over one block.

    Attributes:
        epsilon: whitened variables under each proposal.
        log_target: of the prior's density.
        log_proposal: of the density of each proposal.
        log_message: of the guide's message from the future.
    """

    epsilon: Float[Array, "proposals block columns"]
    log_target: Float[Array, " columns"]
    log_proposal: Float[Array, "proposals columns"]
    log_message: Float[Array, " columns"]


@functools.partial(jax.jit, donate_argnums=1)
def follow_block(
    own: BlockArrays,
    means: Float[Array, "proposals block columns"],
    drawn_by: Int[Array, " columns"],
    guide: Int[Array, ""],
    log_u: Float[Array, "block columns"],
) -> Followed:
    """Draw a block's coordinates one after another.

    Args:
        own: the block.
        means: of each coordinate, as far as the coordinates before the block decide it.
        drawn_by: which proposal draws each column.
        guide: which proposal's message is followed.
        log_u: logarithms of uniform numbers.

    Returns:
        what has changed.
    """
    proposals, size, columns = means.shape

    def of_own(values: ArrayLike) -> Float[Array, " columns"]:
        return sum(
            (jnp.where(drawn_by == j, jnp.asarray(values)[j], 0.0) for j in range(proposals)), jnp.zeros(columns)
        )

    def one(k, state):
        offset, means_part, part, log_target, log_proposal, product, log_message = state
        i = offset + k
        row = lax.dynamic_slice(own.L[:, i], (0, offset), (proposals, _PART))
        m = means_part[:, k] + jnp.einsum("jk,jkc->jc", row, part)
        z = own.slope[:, i, None] * m - own.offset[:, i, None]
        positive = positive_part(z)
        g = of_own(own.deviation[:, i]) * draw(of_own(z), of_own(positive), log_u[i])
        epsilon = (g - m) / own.conditional_deviation[:, i, None]
        # log N(g; m', v') - log Φ(z), but for √(2π v') and ``positive``
        t = g / own.deviation[:, i, None]
        log_proposal = log_proposal - 0.5 * t * t + jnp.where(z < 0, t * z, (t - 0.5 * z) * z)
        log_target = log_target - 0.5 * epsilon[0] ** 2
        m, z_guide = m[guide], z[guide]
        log_message = log_message + m * (own.quadratic[guide, i] * m + own.linear[guide, i])
        log_message = log_message - jnp.where(z_guide < 0, 0.5 * z_guide * z_guide, 0.0)
        part = lax.dynamic_update_index_in_dim(part, epsilon, k, 1)
        return offset, means_part, part, log_target, log_proposal, product * positive, log_message

    def one_part(p, state):
        epsilon, log_target, log_proposal, log_message = state
        offset = p * _PART
        rows = lax.dynamic_slice_in_dim(own.L, offset, _PART, 1)
        means_part = lax.dynamic_slice_in_dim(means, offset, _PART, 1) + jnp.einsum("jik,jkc->jic", rows, epsilon)
        start = (
            offset,
            means_part,
            jnp.zeros((proposals, _PART, columns)),
            log_target,
            log_proposal,
            jnp.ones((proposals, columns)),
            log_message,
        )
        _, _, part, log_target, log_proposal, product, log_message = lax.fori_loop(0, _PART, one, start)
        log_product = log(product)
        epsilon = lax.dynamic_update_slice_in_dim(epsilon, part, offset, 1)
        return epsilon, log_target, log_proposal - log_product, log_message + log_product[guide]

    state = (jnp.zeros_like(means), jnp.zeros(columns), jnp.zeros((proposals, columns)), jnp.zeros(columns))
    epsilon, log_target, log_proposal, log_message = lax.fori_loop(0, size // _PART, one_part, state)
    log_target -= jnp.log(own.conditional_deviation[0]).sum() + size * _HALF_LOG_2PI
    log_proposal -= jnp.log(own.deviation).sum(axis=1)[:, None] + size * _HALF_LOG_2PI
    return Followed(epsilon, log_target, log_proposal, log_message + own.constant[guide])
