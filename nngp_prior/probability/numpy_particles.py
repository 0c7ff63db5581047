"""Particles on the host: NumPy and SciPy's special functions, matrix products by BLAS."""

from __future__ import annotations

import math
import threading

import numpy as np
from jaxtyping import Float, Int, Integer
from scipy.special import log_ndtr

from nngp_prior.numerics.gaussian import draw_half_line
from nngp_prior.probability.proposals import Proposal, ProposalBlock

BLOCK = 64  # coordinates whose means given the past are computed by one matrix product
_STRETCH = 4 * BLOCK
_PART = 16  # the same within a block, given its earlier parts
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
_compiling = threading.Lock()
_compiled_shapes: set[tuple[int, ...]] = set()


class NumpyParticles:
    """The whitened variables of all visited coordinates, without signs, under each proposal.

    The update by a block is implemented twice, compiled and in NumPy. The compiled version is several times as fast,
    since its threads do not wait for each other, and takes a second or two to compile, once per process.
    """

    block = BLOCK

    def __init__(
        self,
        proposals: list[Proposal],
        drawn_by: Int[np.ndarray, " columns"],
        log_u: Float[np.ndarray, "rank columns"],
        compiled: bool,
    ) -> None:
        self.proposals, self.drawn_by, self.log_u, self.compiled = proposals, drawn_by, log_u, compiled
        self.columns = len(drawn_by)
        self.epsilon = [np.empty(log_u.shape, dtype=proposal.L.dtype, order="F") for proposal in proposals]
        self.ahead: list[np.ndarray] = []  # contributions of the coordinates before the stretch to its means
        self.visited = 0

    def follow(
        self, block: ProposalBlock, y: Float[np.ndarray, " size"], guide: int
    ) -> tuple[Float[np.ndarray, " columns"], Float[np.ndarray, "proposals columns"], Float[np.ndarray, " columns"]]:
        """Draw a block's coordinates one after another and update their densities.

        Args:
            block: the next coordinates.
            y: labels of the coordinates, ±1.
            guide: index of the proposal whose message from the future is updated.

        Returns:
            increments of the logarithms of the prior's density, of each proposal's density, and of the message.
        """
        draw = _draw_compiled if self.compiled else _draw
        means = self._means(block.coordinates, y)
        log_u = self.log_u[block.coordinates]
        epsilon, log_target, log_proposal, log_message = draw(block, means, self.drawn_by, guide, log_u)
        for own, new in zip(self.epsilon, epsilon, strict=True):
            np.multiply(y[:, None], new, out=own[block.coordinates], casting="same_kind")
        self.visited = block.coordinates.stop
        return log_target, log_proposal, log_message

    def _means(self, coordinates: slice, y: Float[np.ndarray, " size"]) -> Float[np.ndarray, "proposals size columns"]:
        """Return the means of the next coordinates given the past.

        The contribution of the coordinates before a stretch of blocks is one product for the whole stretch: tall enough
        for BLAS to be fast.

        Returns:
            the means under each proposal, with the labels' signs.
        """
        start, stop = coordinates.start, coordinates.stop
        if start % _STRETCH == 0:
            stretch = slice(start, start + _STRETCH)
            self.ahead = [
                p.L[stretch, :start] @ epsilon[:start] for p, epsilon in zip(self.proposals, self.epsilon, strict=True)
            ]
        begin = start - start % _STRETCH
        means = np.empty((len(self.proposals), len(y), self.columns))
        for own, ahead, epsilon, p in zip(means, self.ahead, self.epsilon, self.proposals, strict=True):
            mean = ahead[start - begin : stop - begin]
            if start > begin:
                mean = mean + p.L[coordinates, begin:start] @ epsilon[begin:start]
            np.multiply(y[:, None], mean, out=own)
            own += p.mean[coordinates, None]
        return means

    def reorder(self, columns: Integer[np.ndarray, " some"], parents: Integer[np.ndarray, " some"]) -> None:
        """Replace columns ``columns`` by ``parents``."""
        for own in self.epsilon:
            own[: self.visited, columns] = own[: self.visited, parents]
        for ahead in self.ahead:
            ahead[:, columns] = ahead[:, parents]

    def violates(
        self, L: Float[np.ndarray, "rest rank"], y: Float[np.ndarray, " rest"]
    ) -> Integer[np.ndarray, " columns"]:
        """Return, per particle, the number of violated constraints on coordinates determined by those visited."""
        broken = np.zeros(self.columns, dtype=np.int64)
        for start in range(0, len(L), 1024):
            g = L[start : start + 1024] @ self.epsilon[0]
            broken += (g * y[start : start + 1024, None] <= 0).sum(axis=0)
        return broken

    def whitened(self) -> Float[np.ndarray, "rank columns"]:
        """Return the whitened variables under the first proposal, the prior's."""
        return self.epsilon[0]


def _draw(
    block: ProposalBlock, means: np.ndarray, drawn_by: np.ndarray, guide: int, log_u: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return ε and the increments of :meth:`NumpyParticles.follow`; the means are overwritten."""
    count, size, columns = means.shape
    column = np.arange(columns)
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
        own = drawn_by, column
        g = block.deviation[drawn_by, k] * draw_half_line(z[own], log_phi[own], log_u[k])
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
    return epsilon, log_target, log_proposal, log_message


def _draw_compiled(
    block: ProposalBlock, means: np.ndarray, drawn_by: np.ndarray, guide: int, log_u: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Compiled version of :func:`_draw`. Blocks and columns are padded, so that few shapes are compiled.

    Returns:
        as :func:`_draw`.
    """
    import jax

    from nngp_prior.probability.particle_block import follow_block, padded

    _, size, columns = means.shape
    rows, more = BLOCK - size, _compiled_columns(columns) - columns
    if rows or more:
        means = np.pad(means, ((0, 0), (0, rows), (0, more)))
        log_u = np.pad(log_u, ((0, rows), (0, more)), constant_values=math.log(0.5))
        drawn_by = np.pad(drawn_by, (0, more))
    with jax.enable_x64(True):
        arguments = padded(block, rows), means, drawn_by.astype(np.int32), guide, log_u
        if means.shape not in _compiled_shapes:
            with _compiling:  # otherwise every thread would compile
                followed = follow_block(*arguments)
                _compiled_shapes.add(means.shape)
        else:
            followed = follow_block(*arguments)
        epsilon, log_target, log_proposal, log_message = (np.asarray(part)[..., :columns] for part in followed)
    return epsilon[:, :size], log_target, log_proposal, log_message


def _compiled_columns(columns: int) -> int:
    """Round up to 128 or a multiple of 512."""
    return 128 if columns <= 128 else -(-columns // 512) * 512
