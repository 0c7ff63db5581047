"""Draws from the Gaussian process."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from nngp_prior.numerics.random import bit_stream
from nngp_prior.probability import prepare
from nngp_prior.schemas.specs.estimator import Sampling

_BLOCK = 4096  # draws per block, each of which has its own random stream
_NUMBERS = 2**22  # numbers per block, 32 MiB


class GaussianDraws:
    """Draws of f ~ N(0, K), in float64, each output scaled to unit variance.

    Args:
        K: (n, n) covariances.
        seed: random seed; block b of draws has its own stream.
    """

    parallel = True

    def __init__(self, K: Float[np.ndarray, "n n"], seed: int) -> None:
        self._kernel, self._seed = prepare(K, Sampling(draws=1)), seed
        self.block = self.block_of(len(K))

    @staticmethod
    def block_of(n: int) -> int:
        """Return the number of draws per block, for n inputs."""
        return max(1, min(_BLOCK, _NUMBERS // n))

    def __call__(self, block: int) -> Float[np.ndarray, "block n"]:
        """Return a block of draws, independent of calls for other blocks.

        Args:
            block: index of the block.

        Returns:
            one draw per row.
        """
        # f = sign * (L z) of the input that each input is tied to
        kernel = self._kernel
        Z = bit_stream(self._seed, "gp", block).standard_normal((self.block, kernel.rank))
        return (Z @ np.asarray(kernel.L).T)[:, kernel.group] * kernel.sign
