"""Particles on the host: NumPy and SciPy's special functions, matrix products by BLAS."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int, Integer
from scipy.special import log_ndtr

from nngp_prior.numerics.gaussian import draw_half_line
from nngp_prior.probability.proposals import Block, Proposal

BLOCK = 64  # coordinates whose means, as far as the past decides them, are one matrix product
_PART = 16  # of a block; as far as the earlier parts decide them, likewise
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class HostParticles:
    """The whitened variables of all coordinates visited, without signs, under each proposal."""

    block = BLOCK

    def __init__(
        self,
        proposals: list[Proposal],
        drawn_by: Int[np.ndarray, " columns"],
        log_u: Float[np.ndarray, "rank columns"],
    ) -> None:
        self.proposals, self.drawn_by, self.log_u = proposals, drawn_by, log_u
        self.columns = np.arange(len(drawn_by))
        self.epsilon = [np.empty(log_u.shape, dtype=proposal.L.dtype) for proposal in proposals]
        self.visited = 0

    def follow(
        self, block: Block, y: Float[np.ndarray, " size"], guide: int
    ) -> tuple[Float[np.ndarray, " columns"], Float[np.ndarray, "proposals columns"], Float[np.ndarray, " columns"]]:
        """Draw a block's coordinates one after another and follow their densities.

        Args:
            block: the next coordinates.
            y: their labels.
            guide: the proposal whose message from the future is followed.

        Returns:
            what is added to the logarithms of the prior's density, of each proposal's density, and of the message.
        """
        start, stop = block.coordinates.start, block.coordinates.stop
        count, size, columns = len(self.proposals), stop - start, len(self.columns)
        means = self._means(block.coordinates, y)
        epsilon = np.empty((count, size, columns))
        z, log_phi, r = (np.empty((count, columns)) for _ in range(3))
        log_proposal, log_phi_guide = np.zeros((count, columns)), np.zeros(columns)
        for k in range(size):
            part = k - k % _PART
            if k and k == part:
                means[:, part : part + _PART] += block.L[:, part : part + _PART, :part] @ epsilon[:, :part]
            m = means[:, k]
            if k > part:
                m += (block.L[:, None, k, part:k] @ epsilon[:, part:k])[:, 0]
            np.multiply(m, block.slope[:, k, None], out=z)
            z -= block.offset[:, k, None]
            log_ndtr(z, out=log_phi)
            g = block.deviation[self.drawn_by, k] * draw_half_line(
                self._own(z), self._own(log_phi), self.log_u[start + k]
            )
            np.subtract(g, m, out=epsilon[:, k])
            epsilon[:, k] /= block.conditional_deviation[:, k, None]
            # log N(g; m', v') - log Φ(z), without constants
            np.divide(g, block.deviation[:, k, None], out=r)
            r -= z
            r *= r
            r *= 0.5
            log_proposal -= r
            log_proposal -= log_phi
            log_phi_guide += log_phi[guide]
        log_proposal -= (np.log(block.deviation) + _HALF_LOG_2PI).sum(axis=1)[:, None]
        log_target = -0.5 * np.einsum("kc,kc->c", epsilon[0], epsilon[0])
        log_target -= np.log(block.conditional_deviation[0]).sum() + size * _HALF_LOG_2PI
        m = means[guide]
        log_message = log_phi_guide + block.linear[guide] @ m + block.constant[guide]
        log_message += block.quadratic[guide] @ np.square(m, out=m)
        for own, new in zip(self.epsilon, epsilon, strict=True):
            np.multiply(y[:, None], new, out=own[start:stop], casting="same_kind")
        self.visited = stop
        return log_target, log_proposal, log_message

    def _means(self, coordinates: slice, y: Float[np.ndarray, " size"]) -> Float[np.ndarray, "proposals size columns"]:
        """Means of the next coordinates as far as the past decides them."""
        means = np.empty((len(self.proposals), len(y), len(self.columns)))
        for own, epsilon, proposal in zip(means, self.epsilon, self.proposals, strict=True):
            np.multiply(y[:, None], proposal.L[coordinates, : self.visited] @ epsilon[: self.visited], out=own)
            own += proposal.mean[coordinates, None]
        return means

    def _own(self, values: Float[np.ndarray, "proposals columns"]) -> Float[np.ndarray, " columns"]:
        """Of numbers for every proposal, those of the one that draws each column."""
        return values[self.drawn_by, self.columns]

    def reorder(self, columns: Integer[np.ndarray, " some"], parents: Integer[np.ndarray, " some"]) -> None:
        """Replace some columns by others."""
        for own in self.epsilon:
            own[: self.visited, columns] = own[: self.visited, parents]

    def violates(
        self, L: Float[np.ndarray, "rest rank"], y: Float[np.ndarray, " rest"]
    ) -> Integer[np.ndarray, " columns"]:
        """How many constraints on coordinates that those visited determine each particle breaks."""
        broken = np.zeros(len(self.columns), dtype=np.int64)
        for start in range(0, len(L), 1024):
            g = L[start : start + 1024] @ self.epsilon[0]
            broken += (g * y[start : start + 1024, None] <= 0).sum(axis=0)
        return broken
