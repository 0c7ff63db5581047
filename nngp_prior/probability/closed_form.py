r"""Orthant probabilities in closed form or as a one-dimensional integral."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float
from scipy.special import log_ndtr, logsumexp

from nngp_prior.errors import InvalidKernel
from nngp_prior.numerics.backends import correlation, row_blocks
from nngp_prior.probability.factored_kernel import FactoredKernel
from nngp_prior.probability.registry import ESTIMATORS
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.results.estimate import Estimate, Exact
from nngp_prior.schemas.specs.estimator import ClosedForm

_STRUCTURE_TOLERANCE = 1e-10
_NEGLIGIBLE = 60.0  # nats below the integrand's peak
_CHUNK = 2**20  # values of log Φ per chunk


@ESTIMATORS.register(ClosedForm)
def estimate_closed_form(
    kernel: FactoredKernel, labels: np.ndarray, parameters: ClosedForm, seed: int, progress: ProgressCallback
) -> Estimate:
    """Compute log P exactly for up to three distinct inputs, or for any number with product correlation.

    Returns:
        an estimate without error.

    Raises:
        InvalidKernel: if K has neither form.
    """
    del parameters, seed, progress
    began = time.perf_counter()
    C = correlation(kernel.K, kernel.kept, kernel.scale * labels, whole=True)
    if kernel.m == 1:
        log_p = -math.log(2)
    elif kernel.m == 2:
        log_p = math.log(orthant_2(C[0, 1]))
    elif kernel.m == 3 and kernel.rank == 3:
        log_p = math.log(orthant_3(C))
    elif kernel.m == 3:
        # Three lines through the origin of a plane: the orthant is an arc, or empty.
        arc = (orthant_2(C[0, 1]) + orthant_2(C[0, 2]) + orthant_2(C[1, 2]) - 0.5) / 2
        log_p = math.log(arc) if arc > _STRUCTURE_TOLERANCE else -math.inf
    else:
        loadings = product_loadings(C)
        if loadings is None:
            raise InvalidKernel(
                "K",
                f"has no closed form: {kernel.m} distinct inputs without product correlation",
                "Use method='smc'.",
            )
        log_p = log_orthant_product(loadings)
    return Estimate(
        value=log_p,
        stderr=0.0,
        n=kernel.n,
        method="closed-form",
        status="ok" if log_p > -math.inf else "impossible",
        message=kernel.note(),
        seconds=time.perf_counter() - began,
        evidence=Exact(log_p=log_p),
    )


def orthant_2(rho: float) -> float:
    """P = 1/4 + arcsin(ρ)/2π = arccos(-ρ)/2π (Sheppard 1899), by the arctangent that is accurate near ρ = -1."""
    return math.atan2(math.sqrt((1 - rho) * (1 + rho)), -rho) / (2 * math.pi)


def orthant_3(C: Float[np.ndarray, "3 3"]) -> float:
    """P = 1/8 + Σ arcsin(ρ_ij)/4π, as a solid angle over 4π.

    The orthant in whitened coordinates is a cone; Van Oosterom and Strackee's formula (1983) on its three edges avoids
    the cancellation of the sum of arcsines for small P.

    Args:
        C: non-singular correlation matrix.

    Returns:
        the probability that all three are positive.
    """
    L = np.linalg.cholesky(C)
    # Edges: rows of L⁻ᵀ, not normalised, each perpendicular to two of the three planes.
    edges = np.linalg.inv(L).T
    edges /= np.linalg.norm(edges, axis=1, keepdims=True)
    a, b, c = edges
    numerator = abs(float(np.linalg.det(edges)))
    angle = 2 * math.atan2(numerator, 1 + float(a @ b + b @ c + c @ a))
    return angle / (4 * math.pi)


def product_loadings(C: Float[np.ndarray, "m m"]) -> Float[np.ndarray, " m"] | None:
    """Return λ with C_ij = λ_i λ_j for all i ≠ j and |λ_i| < 1, or None if there is none."""
    m = len(C)
    i = j = 0
    largest = -1.0
    for rows, off_diagonal in _off_diagonal(C):
        np.abs(off_diagonal, out=off_diagonal)
        if off_diagonal.max() > largest:
            first, second = np.unravel_index(np.argmax(off_diagonal), off_diagonal.shape)
            i, j, largest = rows.start + int(first), int(second), float(off_diagonal.max())
    if largest <= _STRUCTURE_TOLERANCE:
        return np.zeros(m)
    # Third element of the triple λ_i² = C_ij C_ik / C_jk: the one with the largest products.
    strength = np.minimum(np.abs(C[i]), np.abs(C[j]))
    strength[[i, j]] = 0.0
    k = int(np.argmax(strength))
    only_pair = strength[k] <= _STRUCTURE_TOLERANCE
    squared = largest if only_pair else C[i, j] * C[i, k] / C[j, k]
    if not 0 < squared < 1:
        return None
    loadings = C[i] / math.sqrt(squared)
    loadings[i] = math.sqrt(squared)
    if np.abs(loadings).max() >= 1:
        return None
    for rows, off_diagonal in _off_diagonal(C):
        product = np.outer(loadings[rows], loadings)
        own = np.arange(len(product))
        product[own, rows.start + own] = 0.0
        product -= off_diagonal
        if np.abs(product, out=product).max() > _STRUCTURE_TOLERANCE:
            return None
    return loadings


def _off_diagonal(C: Float[np.ndarray, "m m"]) -> Iterator[tuple[slice, Float[np.ndarray, "rows m"]]]:
    """Yield blocks of rows, with zeros on the diagonal."""
    for rows in row_blocks(len(C)):
        block = C[:, rows].T.copy()  # C is symmetric and in Fortran order
        own = np.arange(len(block))
        block[own, rows.start + own] = 0.0
        yield rows, block


def log_orthant_product(loadings: Float[np.ndarray, " m"]) -> float:
    r"""Return log P for product correlation (Curnow and Dunnett 1962), in nats.

    .. math:: P = \int φ(x) \prod_i Φ\Big(\frac{λ_i x}{\sqrt{1 - λ_i^2}}\Big) dx

    The integrand is log-concave, so that the trapezoidal rule on the interval where it is not negligible converges
    faster than any power.

    Args:
        loadings: λ, |λ_i| < 1.

    Returns:
        log P, to a relative error of about 1e-13.
    """
    slopes, multiplicity = np.unique(loadings / np.sqrt((1 - loadings) * (1 + loadings)), return_counts=True)

    def log_integrand(x: np.ndarray) -> np.ndarray:
        parts = np.array_split(x, math.ceil(len(x) * len(slopes) / _CHUNK))
        log_phis = [multiplicity @ log_ndtr(np.outer(slopes, part)) for part in parts]
        return np.concatenate(log_phis) - 0.5 * x * x - 0.5 * math.log(2 * math.pi)

    def value(x: float) -> float:
        return float(log_integrand(np.array([x]))[0])

    bound = 1.0
    while max(value(bound), value(-bound)) > value(0.0) - 1.0:
        bound *= 2
    grid = np.linspace(-bound, bound, 2**12)
    peak = float(grid[np.argmax(log_integrand(grid))])
    left, right = (_where_negligible(value, peak, direction) for direction in (-1, 1))
    points, previous = 129, math.inf
    while True:
        x = np.linspace(left, right, points)
        log_p = float(logsumexp(log_integrand(x))) + math.log(x[1] - x[0])
        if abs(log_p - previous) < 1e-13 * max(1.0, abs(log_p)) or points > 2**20:
            return log_p
        points, previous = 2 * points - 1, log_p


def _where_negligible(value: Callable[[float], float], peak: float, direction: int) -> float:
    step = 1e-3
    while value(peak + direction * step) > value(peak) - _NEGLIGIBLE:
        step *= 1.25
    return peak + direction * step
