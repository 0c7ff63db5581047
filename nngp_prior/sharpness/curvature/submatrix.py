"""Submatrix of the Hessian at selected parameters, each with its own unit."""

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
    """S H S: rows and columns of a matrix at selected parameters, times factors.

    Attributes:
        chosen: indices of the parameters in θ.
        scales: diagonal of S, one factor per parameter.
    """

    chosen: Integer[Array, " size"]
    scales: Float[Array, " size"]

    @classmethod
    def of(
        cls, whole: Operator, chosen: Integer[np.ndarray, " size"], scales: Float[np.ndarray, " size"] | None = None
    ) -> Selection:
        """Create from a whole matrix, sharing its linearisation.

        Args:
            whole: the matrix.
            chosen: indices of parameters.
            scales: factors. Default: 1.

        Returns:
            the submatrix.
        """
        scales = np.ones(len(chosen)) if scales is None else scales
        with high_precision():
            factors = jnp.asarray(scales, whole.risk.dtype)
            return cls(whole.risk, whole.linearisation, whole.matrix, 0, len(chosen), jnp.asarray(chosen), factors)

    def widen(self, v: Array) -> Array:
        """Return S v at the selected indices and zeros elsewhere, for one vector or several."""
        return _widened(self.chosen, self.scales * v, self.risk.size)

    def narrow(self, whole: Array) -> Array:
        """Return S times the selected entries."""
        return self.scales * whole[self.chosen]


@functools.partial(jax.jit, static_argnames="size")
def _widened(chosen: Array, values: Array, size: int) -> Array:
    return jnp.zeros((*values.shape[:-1], size), values.dtype).at[..., chosen].set(values)
