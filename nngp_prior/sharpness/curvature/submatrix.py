"""The Hessian on some of the parameters, each in a unit of its own."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Integer

from nngp_prior.sharpness.curvature.operators import Operator
from nngp_prior.sharpness.risk.networks import high_precision


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("risk", "linearisation", "chosen", "scales"),
    meta_fields=("matrix", "start", "stop"),
)
@dataclass(frozen=True, eq=False)
class Selection(Operator):
    """S H S: rows and columns of a matrix at some parameters, times factors.

    Attributes:
        chosen: places of the parameters in θ.
        scales: the diagonal of S, one factor a parameter.
    """

    chosen: Integer[Array, " size"]
    scales: Float[Array, " size"]

    @classmethod
    def of(
        cls, whole: Operator, chosen: Integer[np.ndarray, " size"], scales: Float[np.ndarray, " size"] | None = None
    ) -> Selection:
        """Of a whole matrix, whose preparation for products it shares.

        Args:
            whole: the matrix.
            chosen: places of parameters.
            scales: factors; 1 when absent.

        Returns:
            the matrix.
        """
        scales = np.ones(len(chosen)) if scales is None else scales
        with high_precision():
            factors = jnp.asarray(scales, whole.risk.dtype)
            return cls(whole.risk, whole.linearisation, whole.matrix, 0, len(chosen), jnp.asarray(chosen), factors)

    def widen(self, v: Array) -> Array:
        """S v at the chosen places, zeros elsewhere; of one vector or several."""
        return _widened(self.chosen, self.scales * v, self.risk.size)

    def narrow(self, whole: Array) -> Array:
        """S times the chosen entries."""
        return self.scales * whole[self.chosen]


@functools.partial(jax.jit, static_argnames="size")
def _widened(chosen: Array, values: Array, size: int) -> Array:
    return jnp.zeros((*values.shape[:-1], size), values.dtype).at[..., chosen].set(values)
