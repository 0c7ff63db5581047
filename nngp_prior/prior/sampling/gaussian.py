"""Draws from the Gaussian process."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from nngp_prior.numerics.random import bit_stream
from nngp_prior.probability import prepare
from nngp_prior.schemas.specs.estimator import Sampling

_BLOCK = 4096  # draws: their random numbers have a seed of their own
_NUMBERS = 2**22  # in a block, 32 MiB


class GaussianDraws:
    """Draws of f ~ N(0, K), in float64, each output scaled to unit variance.

    Args:
        K: covariances.
        seed: block b of draws has a stream of its own.
    """

    parallel = True

    def __init__(self, K: Float[np.ndarray, "n n"], seed: int) -> None:
        self._kernel, self._seed = prepare(K, Sampling(draws=1)), seed
        self.block = max(1, min(_BLOCK, _NUMBERS // len(K)))
        self.stream = "gp"

    def __call__(self, block: int) -> Float[np.ndarray, "block n"]:
        """A block of draws; calls for other blocks do not change them.

        Args:
            block: its number.

        Returns:
            one draw a row.
        """
        # f = sign * (L z) of the input that each one is tied to
        kernel = self._kernel
        Z = bit_stream(self._seed, "gp", block).standard_normal((self.block, kernel.rank))
        return (Z @ np.asarray(kernel.L).T)[:, kernel.group] * kernel.sign
