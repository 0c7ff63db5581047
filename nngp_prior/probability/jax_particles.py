"""Particles on a device, in JAX: one compiled function per block of coordinates."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Int, Integer

from nngp_prior.numerics.device import in_float64
from nngp_prior.probability.particle_block import follow_block, padded
from nngp_prior.probability.proposals import Proposal, ProposalBlock

BLOCK = 64  # coordinates whose means given the past are computed by one matrix product
_ROWS = 1024  # constraints checked at a time
_product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


class JaxParticles:
    """The whitened variables of all visited coordinates, without signs, under each proposal."""

    block = BLOCK

    @in_float64
    def __init__(
        self,
        proposals: list[Proposal],
        drawn_by: Int[np.ndarray, " columns"],
        log_u: Float[np.ndarray, "rank columns"],
    ) -> None:
        self.log_u, self.drawn_by = log_u, jnp.asarray(drawn_by)
        self.factors = [proposal.L for proposal in proposals]
        self.means = np.stack([proposal.mean for proposal in proposals])
        self.epsilon = [jnp.zeros(log_u.shape, L.dtype) for L in self.factors]

    @in_float64
    def follow(
        self, block: ProposalBlock, y: Float[np.ndarray, " size"], guide: int
    ) -> tuple[Float[np.ndarray, " columns"], Float[np.ndarray, "proposals columns"], Float[np.ndarray, " columns"]]:
        """As :meth:`nngp_prior.probability.numpy_particles.NumpyParticles.follow`.

        The last block is padded to the size of the others, with coordinates that are independent of all others and
        excluded from every sum, so that nothing more has to be compiled.

        Returns:
            increments of the logarithms of the prior's density, of each proposal's density, and of the message.
        """
        start, extra = block.coordinates.start, BLOCK - len(y)
        means = _means(self.factors, self.epsilon, self.means[:, block.coordinates], y, start)
        log_u = np.pad(self.log_u[block.coordinates], ((0, extra), (0, 0)), constant_values=math.log(0.5))
        followed = follow_block(padded(block, extra), means, self.drawn_by, guide, log_u)
        self.epsilon = _keep(self.epsilon, followed.epsilon, y, start)
        return np.asarray(followed.log_target), np.asarray(followed.log_proposal), np.asarray(followed.log_message)

    @in_float64
    def reorder(self, columns: Integer[np.ndarray, " some"], parents: Integer[np.ndarray, " some"]) -> None:
        """Replace columns ``columns`` by ``parents``."""
        self.epsilon = _reorder(self.epsilon, columns, parents)

    @in_float64
    def violates(self, L: Float[Array, "rest rank"], y: Float[np.ndarray, " rest"]) -> Integer[np.ndarray, " columns"]:
        """Return, per particle, the number of violated constraints on coordinates determined by those visited."""
        broken = np.zeros(len(self.drawn_by), dtype=np.int64)
        for start in range(0, len(L), _ROWS):
            broken += np.asarray(_violates(L[start : start + _ROWS], self.epsilon[0], y[start : start + _ROWS]))
        return broken

    def whitened(self) -> Float[np.ndarray, "rank columns"]:
        """As :meth:`nngp_prior.probability.numpy_particles.NumpyParticles.whitened`."""
        return np.asarray(self.epsilon[0])


@jax.jit
def _means(
    factors: list[Float[Array, "rank rank"]],
    epsilon: list[Float[Array, "rank columns"]],
    means: Float[Array, "proposals size"],
    y: Float[Array, " size"],
    start: Int[Array, ""],
) -> Float[Array, "proposals block columns"]:
    """Return the means of a block given the past; rows of ε from ``start`` on are still 0."""
    from_past = [
        _product(lax.dynamic_slice_in_dim(L, start, len(y)), own).astype(jnp.float64)
        for L, own in zip(factors, epsilon, strict=True)
    ]
    of_block = y[:, None] * jnp.stack(from_past) + means[:, :, None]
    return jnp.pad(of_block, ((0, 0), (0, BLOCK - len(y)), (0, 0)))


@functools.partial(jax.jit, donate_argnums=0)
def _keep(
    epsilon: list[Float[Array, "rank columns"]],
    new: Float[Array, "proposals block columns"],
    y: Float[Array, " size"],
    start: Int[Array, ""],
) -> list[Float[Array, "rank columns"]]:
    without_signs = y[:, None] * new[:, : len(y)]
    return [
        lax.dynamic_update_slice_in_dim(own, changed.astype(own.dtype), start, 0)
        for own, changed in zip(epsilon, without_signs, strict=True)
    ]


@functools.partial(jax.jit, donate_argnums=0)
def _reorder(
    epsilon: list[Float[Array, "rank columns"]], columns: Int[Array, " some"], parents: Int[Array, " some"]
) -> list[Float[Array, "rank columns"]]:
    return [own.at[:, columns].set(own[:, parents]) for own in epsilon]


@jax.jit
def _violates(
    L: Float[Array, "some rank"], epsilon: Float[Array, "rank columns"], y: Float[Array, " some"]
) -> Int[Array, " columns"]:
    return jnp.sum(y[:, None] * _product(L, epsilon) <= 0, axis=0)
