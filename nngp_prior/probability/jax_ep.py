r"""EP sweeps on a device, as :mod:`nngp_prior.probability.sweeps`: one compiled function per sweep.

Σ is kept whole, not as a triangle: one product with a matrix as large as itself for each block.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from nngp_prior.numerics.device import in_float64
from nngp_prior.numerics.half_line import moments
from nngp_prior.probability.sweeps import BLOCK


class _State(NamedTuple):
    """Σ, μ, the sites, and the largest change of a site in this sweep."""

    Sigma: Float[Array, "m m"]
    mean: Float[Array, " m"]
    precision: Float[Array, " m"]
    shift: Float[Array, " m"]
    change: Float[Array, ""]


class _Block(NamedTuple):
    """A block during its sequential updates; ``CU`` holds C above U."""

    CU: Float[Array, "twice b"]
    weight: Float[Array, " b"]
    gain: Float[Array, " b"]
    mean: Float[Array, " b"]
    precision: Float[Array, " b"]
    shift: Float[Array, " b"]
    change: Float[Array, ""]


class DeviceSweeps:
    """EP on a device; independent inputs pad the number of inputs to a multiple of the block size."""

    @in_float64
    def __init__(
        self,
        Sigma: Float[Array, "m m"],
        precision: Float[np.ndarray, " m"],
        shift: Float[np.ndarray, " m"],
        mean: Float[np.ndarray, " m"],
    ) -> None:
        self.m = len(Sigma)
        extra = -self.m % BLOCK
        if extra:
            Sigma = _with_independent(Sigma, extra)
        mu, s, nu = (jnp.pad(jnp.asarray(x), (0, extra)) for x in (mean, precision, shift))
        self.state = _State(Sigma, mu, s, nu, jnp.zeros(()))

    @in_float64
    def sweep(self) -> float:
        """Sweep once over all blocks; return the largest change of a site."""
        self.state = _sweep(self.state, BLOCK)
        return float(self.state.change)

    @property
    def precision(self) -> Float[np.ndarray, " m"]:
        """The sites' s."""
        return np.array(self.state.precision)[: self.m]

    @property
    def shift(self) -> Float[np.ndarray, " m"]:
        """The sites' ν."""
        return np.array(self.state.shift)[: self.m]

    @property
    def mean(self) -> Float[np.ndarray, " m"]:
        """μ, as updated by the sweeps."""
        return np.array(self.state.mean)[: self.m]

    @in_float64
    def variance(self) -> Float[np.ndarray, " m"]:
        """The diagonal of Σ."""
        return np.array(jnp.diagonal(self.state.Sigma), dtype=np.float64)[: self.m]


@functools.partial(jax.jit, static_argnames="extra")
def _with_independent(Sigma: Float[Array, "m m"], extra: int) -> Float[Array, "more more"]:
    Sigma = jnp.pad(Sigma, ((0, extra), (0, extra)))
    added = jnp.arange(len(Sigma) - extra, len(Sigma))
    return Sigma.at[added, added].set(1)


@functools.partial(jax.jit, static_argnames="size", donate_argnums=0)
def _sweep(state: _State, size: int) -> _State:
    def update(j: Array, state: _State) -> _State:
        return _update_block(state, j * size, size)

    return lax.fori_loop(0, len(state.mean) // size, update, state._replace(change=jnp.zeros(())))


def _update_block(state: _State, start: Array, size: int) -> _State:
    """Run sequential EP inside one block, then apply its total change to the whole matrix."""

    def of_block(x: Array) -> Array:
        return lax.dynamic_slice_in_dim(x, start, size)

    Sigma = state.Sigma
    columns = lax.dynamic_slice_in_dim(Sigma, start, size, axis=1)
    Sigma_II = of_block(columns).astype(jnp.float64)
    block = _sequential_ep(Sigma_II, of_block(state.mean), of_block(state.precision), of_block(state.shift))
    product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    G = product(columns, block.CU[size:].astype(Sigma.dtype))
    return _State(
        Sigma + product(G * -block.weight.astype(Sigma.dtype), G.T),
        state.mean + product(G, block.gain.astype(Sigma.dtype)),
        lax.dynamic_update_slice_in_dim(state.precision, block.precision, start, 0),
        lax.dynamic_update_slice_in_dim(state.shift, block.shift, start, 0),
        jnp.maximum(state.change, block.change),
    )


def _sequential_ep(
    Sigma: Float[Array, "b b"], mean: Float[Array, " b"], precision: Float[Array, " b"], shift: Float[Array, " b"]
) -> _Block:
    """Sweep once over a small matrix, as on the host; ``change`` is infinite in the same cases."""
    b = len(mean)
    start = jnp.concatenate([Sigma, jnp.eye(b)])

    def update(k: Array, block: _Block) -> _Block:
        CU, old_s, old_nu, marginal_mean = block.CU, block.precision[k], block.shift[k], block.mean[k]
        column = start[:, k] - CU @ (block.weight * CU[k])  # columns of C from k on are still 0
        variance = column[k]
        tau = 1 / variance - old_s
        proper = (variance > 0) & (tau > 0)
        tau = jnp.where(proper, tau, 1.0)
        root = jnp.sqrt(tau)
        h, r, V, D = moments((marginal_mean / variance - old_nu) / root)
        s = jnp.where(proper, tau * r / V, old_s)
        nu = jnp.where(proper, root * h * D / V, old_nu)
        delta_s, delta_nu = s - old_s, nu - old_nu
        weight = jnp.where(proper, delta_s / (1 + delta_s * variance), 0.0)
        gain = jnp.where(proper, (delta_nu - delta_s * marginal_mean) / (1 + delta_s * variance), 0.0)
        change = jnp.maximum(jnp.abs(gain) * jnp.sqrt(variance), jnp.abs(weight) * variance)
        change = jnp.where(proper, change, jnp.inf)
        return _Block(
            CU.at[:, k].set(column),
            block.weight.at[k].set(weight),
            block.gain.at[k].set(gain),
            block.mean + column[:b] * gain,
            block.precision.at[k].set(s),
            block.shift.at[k].set(nu),
            jnp.maximum(block.change, change),
        )

    zeros = jnp.zeros(b)
    return lax.fori_loop(
        0, b, update, _Block(jnp.zeros((2 * b, b)), zeros, zeros, mean, precision, shift, jnp.zeros(()))
    )
