"""One sweep of EP over all sites: sequential inside a block, one block at a time by matrix products."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from nngp_prior.numerics import blas
from nngp_prior.numerics.gaussian import half_line_moments
from nngp_prior.numerics.linalg import matrix_vector, subtract_weighted, symmetric_columns

BLOCK = 128


@runtime_checkable
class Sweeps(Protocol):
    """The state of EP between sweeps."""

    @property
    def precision(self) -> np.ndarray:
        """The sites' s."""
        ...

    @property
    def shift(self) -> np.ndarray:
        """The sites' ν."""
        ...

    @property
    def mean(self) -> np.ndarray:
        """μ, as updated by the sweeps."""
        ...

    def sweep(self) -> float:
        """Update every site once.

        Returns:
            the largest change of a site, as the change it makes to its marginal: of the mean in standard deviations, or
            of the variance as a fraction. Infinite if rounding made a variance or a cavity improper.
        """
        ...

    def variance(self) -> Float[np.ndarray, " m"]:
        """The diagonal of Σ."""
        ...


class HostSweeps:
    """EP on the host. Sigma is in Fortran order, lower triangle only; it and the vectors are modified in place."""

    def __init__(
        self,
        Sigma: Float[np.ndarray, "m m"],
        precision: Float[np.ndarray, " m"],
        shift: Float[np.ndarray, " m"],
        mean: Float[np.ndarray, " m"],
    ) -> None:
        self.Sigma, self.precision, self.shift, self.mean = Sigma, precision, shift, mean

    def sweep(self) -> float:
        """See :meth:`Sweeps.sweep`."""
        m = len(self.Sigma)
        return max(self._update_block(start, min(start + BLOCK, m)) for start in range(0, m, BLOCK))

    def variance(self) -> Float[np.ndarray, " m"]:
        """The diagonal of Σ."""
        return self.Sigma.diagonal().astype(np.float64)

    def _update_block(self, start: int, stop: int) -> float:
        r"""Run sequential EP inside one block, then apply its total change to the whole matrix.

        A site's rank-one update subtracts c C Cᵀ from Σ_II, C the column as left by the sites before, and adds a C to
        the mean. U, unit upper triangular, is updated along with C = Σ_II U, so that no system needs to be solved:

        .. math:: G = Σ_{:,I}\, U, \qquad Σ \mathrel{-}= G \operatorname{diag}(c)\, G^T, \qquad μ \mathrel{+}= G a .

        Returns:
            the largest change of a site.
        """
        block = slice(start, stop)
        G = symmetric_columns(self.Sigma, start, stop)
        Sigma_II = G[block].astype(np.float64)
        U, c, a, change = _sequential_ep(Sigma_II, self.mean[block], self.precision[block], self.shift[block])
        blas.trmm(U.astype(G.dtype, order="F"), G, right=True, upper=True)
        self.mean += matrix_vector(G, a)
        subtract_weighted(self.Sigma, G, c)
        return change


def _sequential_ep(
    Sigma: np.ndarray, mean: np.ndarray, s: np.ndarray, nu: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Sweep once over a small matrix by exact sequential EP; s and nu are modified in place.

    Rank-one updates are not applied to Sigma but stored, and applied to one column at a time when it is needed.

    Returns:
        U, c and a of the block's update, and the largest change of a site.
    """
    b = len(mean)
    mean = mean.copy()
    CU = np.zeros((2 * b, b), order="F")  # C above U
    c, a = np.zeros(b), np.zeros(b)
    largest = 0.0
    for k in range(b):
        column = np.zeros(2 * b)
        column[:b] = Sigma[:, k]
        column[b + k] = 1.0
        if k:
            column -= CU[:, :k] @ (c[:k] * CU[k, :k])
        variance = float(column[k])
        if not variance > 0:
            return CU[b:], c, a, math.inf
        marginal_mean, old_s, old_nu = float(mean[k]), float(s[k]), float(nu[k])
        tau = 1 / variance - old_s
        if not tau > 0:
            return CU[b:], c, a, math.inf
        root = math.sqrt(tau)
        h, r, V, D = half_line_moments((marginal_mean / variance - old_nu) / root)
        s[k] = tau * r / V
        nu[k] = root * h * D / V
        delta_s, delta_nu = float(s[k]) - old_s, float(nu[k]) - old_nu
        c[k] = delta_s / (1 + delta_s * variance)
        a[k] = (delta_nu - delta_s * marginal_mean) / (1 + delta_s * variance)
        mean += column[:b] * a[k]
        CU[:, k] = column
        largest = max(largest, abs(a[k]) * math.sqrt(variance), abs(c[k]) * variance)
    return CU[b:], c, a, float(largest)
