r"""Eigenvalues by Lanczos' method; functions of them, and their density, by stochastic Lanczos quadrature.

.. math:: \mathrm{Tr} f(H) ≈ \frac{P}{m} \sum_{r=1}^m \sum_j ω_{rj} f(θ_{rj})

θ and ω are nodes and weights of the Gauss quadrature that T_k stands for, one for each of m starting vectors (Ubaru,
Chen and Saad 2017; Ghorbani, Krishnan and Xiao 2019, arXiv 1901.10159, Algorithm 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from nngp_prior.architectures import FromNetwork
from nngp_prior.errors import InvalidInput
from nngp_prior.numerics.random import generator
from nngp_prior.progress import Progress, ProgressCallback, ProgressOption, shown
from nngp_prior.schemas.sharpness import Eigenvalues, LogDeterminant, SpectralDensity
from nngp_prior.sharpness.cost import measuring_cost
from nngp_prior.sharpness.curvature.lanczos import Lanczos, complete_together, step_together
from nngp_prior.sharpness.curvature.operators import COST, START_COST, Operator, operator_of
from nngp_prior.sharpness.measures.names import check_layer, operators
from nngp_prior.sharpness.measures.registry import CHECKS, MEASURES, Outcome, Quantity
from nngp_prior.sharpness.measures.trace import mean_and_error, number_of, probe_lots
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk

_KEPT_BYTES = 2**27  # of vectors of quadratures side by side
_NEGLIGIBLE = 1e-6  # of the largest absolute eigenvalue, which others are found to if the tolerance is larger

for _specification in (Eigenvalues, LogDeterminant, SpectralDensity):
    CHECKS.register(_specification)(check_layer)


@MEASURES.register(Eigenvalues)
def eigenvalues(risk: EmpiricalRisk, specification: Eigenvalues, seed: int, progress: ProgressCallback) -> Outcome:
    """The ends of the spectrum.

    Args:
        risk: network, loss, data.
        specification: options.
        seed: of the first vector.
        progress: told of each product.

    Returns:
        each eigenvalue that was asked for, with its residual; fewer where the matrix has fewer.
    """
    quantities, gradients = [], 0
    for name, operator in operators(risk, specification):
        found = extremes(operator, specification, seed, progress)
        gradients += found.gradients
        there = len(found.values)
        ends = [("max", there - 1 - i, i) for i in range(min(specification.largest, there))]
        ends += [("min", i, i) for i in range(min(specification.smallest, there))]
        for end, place, i in ends:
            figure = name.format(f"lambda_{end}" + (f"_{i + 1}" if i else ""))
            value, residual = float(found.values[place]), float(found.residuals[place])
            diagnostics = {"residual": residual, "steps": found.steps}
            if not math.isfinite(value) or found.converged[place]:
                quantities.append(Quantity(figure, value, diagnostics=diagnostics))
                continue
            message = (
                f"the residual is {residual:.2g} after {found.steps} steps: an eigenvalue is that near, but it may "
                "not be the last one; raise max_steps or the tolerance"
            )
            quantities.append(Quantity(figure, value, None, "not-converged", message, diagnostics))
    return Outcome(quantities, gradients)


class Extremes(NamedTuple):
    """What Lanczos' method knows of a spectrum's ends.

    Attributes:
        values: Ritz values in increasing order; a NaN where a product was not finite.
        residuals: of each, or an estimate where the last product was left half done.
        converged: which are as near to an eigenvalue as was wanted.
        steps: products.
        gradients: what they cost.
    """

    values: Float[np.ndarray, " k"]
    residuals: Float[np.ndarray, " k"]
    converged: Bool[np.ndarray, " k"]
    steps: int
    gradients: int


def extremes(operator: Operator, specification: Eigenvalues, seed: int, progress: ProgressCallback) -> Extremes:
    """Lanczos' method until both ends of the spectrum have converged.

    Args:
        operator: the matrix.
        specification: how many at each end, the tolerance, and the limit of steps.
        seed: of the first vector.
        progress: told of each product.

    Returns:
        the method's last state.
    """
    rng = generator(seed, "lanczos")
    lanczos = Lanczos.near_leading(operator, rng.random(operator.size, np.float32) - 0.5, rng)
    limit, look = min(specification.max_steps, operator.size), 2
    while True:
        progress(Progress("Lanczos steps", lanczos.steps, limit))
        if lanczos.steps < min(look, limit) and lanczos.finite:
            lanczos.step()
            continue
        last = lanczos.steps >= limit or not lanczos.finite
        look = lanczos.steps + 1 + lanczos.steps // 10
        found, done = _state(lanczos, specification)
        if not done:
            lanczos.complete()  # which the next step would do
            found, done = _state(lanczos, specification)
        if done or last:
            break
    progress(Progress("Lanczos steps", limit, limit))
    return found._replace(gradients=START_COST + found.gradients)


def _state(lanczos: Lanczos, specification: Eigenvalues) -> tuple[Extremes, bool]:
    """What is known, and whether it is what was asked for."""
    values, residuals, _ = lanczos.ritz()
    sizes, tolerance = np.abs(values), specification.tolerance
    converged = residuals <= np.maximum(tolerance * sizes, min(tolerance, _NEGLIGIBLE) * sizes.max())
    k, upper, lower = len(values), specification.largest, specification.smallest
    done = k >= upper + lower and converged[k - upper :].all() and converged[:lower].all()
    return Extremes(values, residuals, converged, lanczos.steps, lanczos.gradients), bool(done)


@dataclass(frozen=True, eq=False)
class Spectrum:
    """What stochastic Lanczos quadrature knows of a matrix's eigenvalues.

    Attributes:
        size: rows of the matrix.
        nodes: of each quadrature, one a starting vector; there may be fewer where the Krylov space was exhausted.
        weights: of the nodes, those of one quadrature sum to 1.
        exact: whether the starting vectors were a basis.
        products: with the matrix, that it took.
    """

    size: int
    nodes: tuple[Float[np.ndarray, " _"], ...]
    weights: tuple[Float[np.ndarray, " _"], ...]
    exact: bool
    products: int

    def __repr__(self) -> str:
        return (
            f"<Spectrum of {self.size:,} eigenvalues from {self.smallest:.4g} to {self.largest:.4g}, "
            f"{len(self.nodes):,} starting vectors>"
        )

    @property
    def smallest(self) -> float:
        """The smallest node: λ_min is not larger."""
        return float(min(nodes[0] for nodes in self.nodes))

    @property
    def largest(self) -> float:
        """The largest node: λ_max is not smaller."""
        return float(max(nodes[-1] for nodes in self.nodes))

    def mean(self, values: list[Float[np.ndarray, " _"]]) -> tuple[float, float | None]:
        """The mean over eigenvalues of a function, and its standard error.

        Args:
            values: the function at the nodes of each quadrature.

        Returns:
            the error is that from the starting vectors, None where they are a basis.
        """
        means = [float(weights @ at_nodes) for weights, at_nodes in zip(self.weights, values, strict=True)]
        return mean_and_error(means, "basis" if self.exact else len(means))

    def density(self, at: Float[np.ndarray, " points"], deviation: float) -> Float[np.ndarray, " points"]:
        r"""The density of eigenvalues, each with a Gaussian in its place.

        .. math:: φ_σ(t) = \frac1m \sum_{r, j} ω_{rj}\, N(t; θ_{rj}, σ^2)

        Args:
            at: where, in units of the matrix.
            deviation: σ, likewise.

        Returns:
            the density, whose integral is 1.
        """
        nodes, weights = np.concatenate(self.nodes), np.concatenate(self.weights) / len(self.nodes)
        density = np.zeros(len(at))
        for node, weight in zip(nodes, weights, strict=True):
            density += weight * np.exp(-(((at - node) / deviation) ** 2) / 2)
        return density / (deviation * math.sqrt(2 * math.pi))


def spectral_density(
    risk: EmpiricalRisk,
    specification: SpectralDensity | None = None,
    *,
    seed: int = 0,
    progress: ProgressOption = None,
) -> Spectrum:
    """The eigenvalues of the Hessian, or another matrix, as a distribution.

    Args:
        risk: network, loss, data.
        specification: options.
        seed: of the starting vectors.
        progress: True to show it, or a callback, called with the expected cost and after each starting vector.

    Returns:
        nodes and weights; its ``density`` draws them.

    Raises:
        InvalidInput: something else than a risk, or there is no such layer.
    """
    if not isinstance(risk, EmpiricalRisk):
        raise InvalidInput("risk", f"is a {type(risk).__name__}", "Pass what EmpiricalRisk.of(…) gives.")
    specification = specification or SpectralDensity()
    check_layer(risk, specification)
    operator = operator_of(risk, specification.matrix, specification.layer)
    own = risk.network.architecture
    with shown(progress, "spectrum") as tell:
        if not isinstance(own, FromNetwork):
            cost = measuring_cost(own, risk.X.shape, specification, str(risk.dtype))
            tell(Progress("quadratures", 0, number_of(specification.probes, operator.size), cost))
        return quadrature(operator, specification.probes, specification.steps, seed, tell)


def quadrature(operator: Operator, probes: int | str, steps: int, seed: int, progress: ProgressCallback) -> Spectrum:
    """Stochastic Lanczos quadrature.

    Args:
        operator: the matrix.
        probes: number of starting vectors with random signs, or ``basis``.
        steps: of Lanczos' method from each.
        seed: of the starting vectors.
        progress: told of each of them.

    Returns:
        nodes and weights; NaN where a product is not finite.
    """
    nodes, weights, products = [], [], 0
    steps = min(steps, operator.size)
    kept = steps * operator.size * operator.risk.dtype.itemsize
    at_once = max(1, min(operator.vectors_at_once, _KEPT_BYTES // kept))
    for starts in probe_lots(operator.size, probes, seed, at_once):
        rngs = [generator(seed, "lanczos", len(nodes) + i) for i in range(len(starts))]
        methods = [Lanczos.from_vector(operator, v, rng) for v, rng in zip(starts, rngs, strict=True)]
        for values, parts, taken in _quadratures(methods, steps):
            nodes.append(values)
            weights.append(parts)
            products += taken
        progress(Progress("quadratures", len(nodes), number_of(probes, operator.size)))
    return Spectrum(operator.size, tuple(nodes), tuple(weights), probes == "basis", products)


def _quadratures(methods: list[Lanczos], steps: int) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Nodes, weights and products of each, after so many steps or where its Krylov space is exhausted."""
    found: dict[int, tuple[np.ndarray, np.ndarray, int]] = {}
    while len(found) < len(methods):
        step_together(methods)
        last = methods[0].steps == steps
        if not last:
            complete_together(methods)
        for i, method in enumerate(methods):
            if i not in found and (last or method.exhausted or not method.finite):
                values, _, weights = method.ritz()
                found[i] = values, weights, method.steps
    return [found[i] for i in range(len(methods))]


@MEASURES.register(LogDeterminant)
def log_determinant(
    risk: EmpiricalRisk, specification: LogDeterminant, seed: int, progress: ProgressCallback
) -> Outcome:
    """log det(H + δI).

    Args:
        risk: network, loss, data.
        specification: options.
        seed: of the starting vectors.
        progress: told of each of them.

    Returns:
        one figure a matrix; NaN and the status ``indefinite`` where H + δI is not positive definite.
    """
    quantities, products = [], 0
    for name, operator in operators(risk, specification):
        spectrum = quadrature(operator, specification.probes, specification.steps, seed, progress)
        products += spectrum.products
        diagnostics = {"smallest_node": spectrum.smallest, "largest_node": spectrum.largest}
        figure = name.format("logdet")
        if spectrum.smallest + specification.damping <= 0:
            message = (
                f"H + δI has an eigenvalue of at most {spectrum.smallest + specification.damping:.3g}; "
                "raise the damping δ, or take matrix='ggn'"
            )
            quantities.append(Quantity(figure, math.nan, None, "indefinite", message, diagnostics))
            continue
        mean, error = spectrum.mean([np.log(nodes + specification.damping) for nodes in spectrum.nodes])
        stderr = None if error is None else operator.size * error
        quantities.append(Quantity(figure, operator.size * mean, stderr, diagnostics=diagnostics))
    return Outcome(quantities, COST * products)


@MEASURES.register(SpectralDensity)
def density(risk: EmpiricalRisk, specification: SpectralDensity, seed: int, progress: ProgressCallback) -> Outcome:
    """What the density of eigenvalues comes to in figures.

    Args:
        risk: network, loss, data.
        specification: options.
        seed: of the starting vectors.
        progress: told of each of them.

    Returns:
        for each matrix the parts of its eigenvalues that are negative (``negative_mass``) and zero (``zero_mass``); the
        diagnostics of the former hold the density on a grid.
    """
    quantities, products = [], 0
    for name, operator in operators(risk, specification):
        spectrum = quadrature(operator, specification.probes, specification.steps, seed, progress)
        products += spectrum.products
        largest = max(abs(spectrum.smallest), abs(spectrum.largest))
        near = specification.negligible * largest
        negative = spectrum.mean([(nodes < -near).astype(float) for nodes in spectrum.nodes])
        zero = spectrum.mean([(np.abs(nodes) <= near).astype(float) for nodes in spectrum.nodes])
        if not math.isfinite(largest):
            negative = zero = (math.nan, None)
        at, deviation = grid(spectrum, specification)
        curve = {
            "smallest_node": spectrum.smallest,
            "largest_node": spectrum.largest,
            "deviation": deviation,
            "eigenvalues": at.tolist(),
            "density": spectrum.density(at, deviation).tolist(),
        }
        quantities.append(Quantity(name.format("negative_mass"), *negative, diagnostics=curve))
        quantities.append(Quantity(name.format("zero_mass"), *zero))
    return Outcome(quantities, COST * products)


def grid(spectrum: Spectrum, specification: SpectralDensity) -> tuple[Float[np.ndarray, " points"], float]:
    """Where a density is given.

    Args:
        spectrum: of the matrix.
        specification: its points, and the width of the Gaussians.

    Returns:
        eigenvalues, five deviations beyond the nodes, and the deviation.
    """
    span = spectrum.largest - spectrum.smallest
    deviation = specification.width * (span if span > 0 else max(abs(spectrum.largest), 1.0))
    margin = 5 * deviation
    return np.linspace(spectrum.smallest - margin, spectrum.largest + margin, specification.points), deviation
