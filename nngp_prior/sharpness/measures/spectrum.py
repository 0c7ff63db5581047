r"""Functions of eigenvalues, and their density, by stochastic Lanczos quadrature.

.. math:: \mathrm{Tr} f(H) ≈ \frac{P}{m} \sum_{r=1}^m \sum_j ω_{rj} f(θ_{rj})

θ and ω are nodes and weights of the Gauss quadrature that T_k stands for, one for each of m starting vectors (Ubaru,
Chen and Saad 2017; Ghorbani, Krishnan and Xiao 2019, arXiv 1901.10159, Algorithm 1).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from typing_extensions import override

from nngp_prior import style
from nngp_prior.architectures import FromNetwork
from nngp_prior.errors import InvalidInput
from nngp_prior.numerics.random import generator
from nngp_prior.progress import Progress, ProgressCallback, ProgressOption, shown
from nngp_prior.schemas.measures.curvature import LogDeterminant, SpectralDensity
from nngp_prior.schemas.table import Column, Table, Tabular
from nngp_prior.sharpness.cost import measuring_cost
from nngp_prior.sharpness.curvature.lanczos import Lanczos, Quadrature, complete_together, step_together
from nngp_prior.sharpness.curvature.operators import COST, Operator, operator_of
from nngp_prior.sharpness.measures.names import check_layer, operators
from nngp_prior.sharpness.measures.registry import CHECKS, MEASURES, MeasureOutcome, Quantity
from nngp_prior.sharpness.measures.trace import mean_and_error, number_of, probe_batches
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk

_DECADES = 8  # range of densities drawn below the highest one
_KEPT_BYTES = 2**27  # memory of the vectors of quadratures that run in parallel
_STEPS_A_LOOK = 10  # steps between convergence tests of a density

for _specification in (LogDeterminant, SpectralDensity):
    CHECKS.register(_specification)(check_layer)


@dataclass(frozen=True, eq=False, repr=False)
class Spectrum(Tabular):
    """Distribution of a matrix's eigenvalues by stochastic Lanczos quadrature; the data frame has a row for each node.

    Attributes:
        size: number of rows of the matrix.
        quadratures: one per starting vector.
        exact: True if the starting vectors were a basis.
    """

    size: int
    quadratures: tuple[Quadrature, ...]
    exact: bool

    @functools.cached_property
    def nodes(self) -> tuple[Float[np.ndarray, " _"], ...]:
        """Nodes of each quadrature, in increasing order; fewer than steps if a Krylov space was exhausted."""
        return tuple(nodes for nodes, _ in self._rules)

    @functools.cached_property
    def weights(self) -> tuple[Float[np.ndarray, " _"], ...]:
        """Weights of the nodes; those of one quadrature sum to 1."""
        return tuple(weights for _, weights in self._rules)

    @functools.cached_property
    def _rules(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [quadrature.rule() for quadrature in self.quadratures]

    @property
    def products(self) -> int:
        """Number of products with the matrix."""
        return sum(len(quadrature.alphas) for quadrature in self.quadratures)

    @override
    def _summary(self) -> str:
        return (
            f"of {self.size:,} eigenvalues from {self.smallest:.4g} to {self.largest:.4g}, "
            f"{len(self.nodes):,} starting vectors"
        )

    @override
    def _table(self) -> Table:
        rows = [(k, *rule) for k, rules in enumerate(self._rules) for rule in zip(*rules, strict=True)]
        columns = [
            Column("start", lambda row: row[0], "int64", "starting vector"),
            Column("node", lambda row: float(row[1]), heading="node", form=".6g"),
            Column("weight", lambda row: float(row[2]), heading="weight", form=".3g"),
        ]
        return Table(columns, rows)

    @override
    def _draw(self, ax: Any) -> None:
        at, deviation = grid(self, SpectralDensity())
        draw_density(ax, at, self.density(at, deviation), self)

    @property
    def smallest(self) -> float:
        """The smallest node: λ_min is not larger."""
        return float(min(nodes[0] for nodes in self.nodes))

    @property
    def largest(self) -> float:
        """The largest node: λ_max is not smaller."""
        return float(max(nodes[-1] for nodes in self.nodes))

    def mean(self, function: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float | None]:
        """Estimate the mean of a function over the eigenvalues.

        Args:
            function: eigenvalues -> values.

        Returns:
            the mean, and its standard error: that from the starting vectors, and the root mean square change of the
            mean over the last quarter of the Lanczos steps. None if the mean is exact.
        """
        means = [float(weights @ function(nodes)) for nodes, weights in self._rules]
        mean, error = mean_and_error(means, "basis" if self.exact else len(means))
        if not math.isfinite(mean) or all(quadrature.exact for quadrature in self.quadratures):
            return mean, error
        steps = max(len(quadrature.alphas) for quadrature in self.quadratures)
        changes = [self._mean_after(function, k) - mean for k in range(max(1, 3 * steps // 4), steps)]
        change = float(np.sqrt(np.mean(np.square(changes)))) if changes else math.inf
        return mean, math.hypot(error or 0.0, change)

    def _mean_after(self, function: Callable[[np.ndarray], np.ndarray], steps: int) -> float:
        rules = [each.rule(None if each.exact else steps) for each in self.quadratures]
        return float(np.mean([weights @ function(nodes) for nodes, weights in rules]))

    def density(self, at: Float[np.ndarray, " points"], deviation: float) -> Float[np.ndarray, " points"]:
        r"""Density of the eigenvalues, each smoothed by a Gaussian.

        .. math:: φ_σ(t) = \frac1m \sum_{r, j} ω_{rj}\, N(t; θ_{rj}, σ^2)

        Args:
            at: points, in units of the matrix.
            deviation: σ, in units of the matrix.

        Returns:
            the density, whose integral is 1.
        """
        nodes, weights = np.concatenate(self.nodes), np.concatenate(self.weights) / len(self.nodes)
        density = np.zeros(len(at))
        for node, weight in zip(nodes, weights, strict=True):
            density += weight * np.exp(-(((at - node) / deviation) ** 2) / 2)
        return density / (deviation * math.sqrt(2 * math.pi))


def draw_density(ax: Any, at: np.ndarray, density: np.ndarray, spectrum: Spectrum) -> None:
    """Draw the density of eigenvalues, and the ends of the spectrum.

    Args:
        ax: axes of matplotlib.
        at: eigenvalues, (k,).
        density: density at them, (k,).
        spectrum: spectrum whose extreme nodes are marked.
    """
    highest = density.max()
    floor = highest / 10**_DECADES
    ax.fill_between(at, floor, np.maximum(density, floor), color=style.INK, alpha=0.15, lw=0)
    ax.semilogy(at, np.maximum(density, floor), color=style.INK, lw=1.3)
    ends = (spectrum.smallest, spectrum.largest)
    label = f"extreme nodes: {spectrum.smallest:.4g} and {spectrum.largest:.4g}"
    ax.vlines(ends, floor, 3 * highest, color=style.ACCENT, lw=0.9, ls="--", label=label)
    ax.set(xlabel="eigenvalue", ylabel="density", ylim=(floor, 3 * highest), xlim=(at[0], at[-1]))
    ax.legend(loc="upper center")
    ax.grid(alpha=0.25)


def spectral_density(
    risk: EmpiricalRisk,
    specification: SpectralDensity | None = None,
    *,
    seed: int = 0,
    tolerance: float = 1e-6,
    progress: ProgressOption = None,
) -> Spectrum:
    """Estimate the distribution of the eigenvalues of the Hessian, or of another matrix.

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: random seed of the starting vectors.
        tolerance: the Lanczos steps end early once ten more change the density of ``specification`` by no more than
            this part of its maximum; 0 takes all of them.
        progress: True to show it, or a callback, called with the expected cost and after each starting vector.

    Returns:
        nodes and weights; ``Spectrum.density`` computes the density from them.

    Raises:
        InvalidInput: if ``risk`` is not a risk, or there is no such layer.
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
            total = number_of(specification.probes, operator.size) * min(specification.steps, operator.size)
            tell(Progress("Lanczos steps", 0, total, cost, at_most=tolerance > 0))
        return quadrature(
            operator, specification.probes, specification.steps, seed, tell, lambda: _Settled(specification, tolerance)
        )


class _Settled:
    """Test of convergence: True if the density has changed by no more than a tolerance since the last call."""

    def __init__(self, specification: SpectralDensity, tolerance: float) -> None:
        self._specification, self._tolerance = specification, tolerance
        self._last: Spectrum | None = None

    def __call__(self, spectrum: Spectrum) -> bool:
        last, self._last = self._last, spectrum
        if last is None:
            return False
        at, deviation = grid(spectrum, self._specification)
        now = spectrum.density(at, deviation)
        return bool(np.abs(now - last.density(at, deviation)).max() <= self._tolerance * now.max())


def quadrature(
    operator: Operator,
    probes: int | str,
    steps: int,
    seed: int,
    progress: ProgressCallback,
    settled: Callable[[], Callable[[Spectrum], bool]] | None = None,
) -> Spectrum:
    """Estimate a spectrum by stochastic Lanczos quadrature.

    Args:
        operator: the matrix.
        probes: number of starting vectors with random signs, or ``basis``.
        steps: number of Lanczos steps from each.
        seed: random seed of the starting vectors.
        progress: called after each step of a group of starting vectors.
        settled: makes a test for each group of starting vectors; called with their spectrum after every ten steps, it
            returns True to end them there. Default: all steps.

    Returns:
        nodes and weights; NaN if a product is not finite.
    """
    found: list[Quadrature] = []
    steps = min(steps, operator.size)
    kept = steps * operator.size * operator.risk.dtype.itemsize
    at_once = max(1, min(operator.vectors_at_once, _KEPT_BYTES // kept))
    number = number_of(probes, operator.size)
    for starts in probe_batches(operator.size, probes, seed, at_once):
        before = len(found)

        def tell(done: int, before: int = before, vectors: int = len(starts)) -> None:
            progress(Progress("Lanczos steps", before * steps + done * vectors, number * steps))

        rngs = [generator(seed, "lanczos", len(found) + i) for i in range(len(starts))]
        methods = [Lanczos.from_vector(operator, v, rng) for v, rng in zip(starts, rngs, strict=True)]
        found += _quadratures(methods, steps, settled() if settled else None, tell)
        tell(steps)
    return Spectrum(operator.size, tuple(found), probes == "basis")


def _quadratures(
    methods: list[Lanczos], steps: int, settled: Callable[[Spectrum], bool] | None, tell: Callable[[int], None]
) -> list[Quadrature]:
    """One quadrature per method, ended after all steps, when the Krylov space is exhausted, or when ``settled``."""
    found: dict[int, Quadrature] = {}
    while len(found) < len(methods):
        step_together(methods)
        done, last = methods[0].steps, methods[0].steps == steps
        tell(done)
        if settled and not last and done % _STEPS_A_LOOK == 0:
            now = tuple(found.get(i) or method.quadrature() for i, method in enumerate(methods))
            last = settled(Spectrum(0, now, exact=False))
        if not last:
            complete_together(methods)
        for i, method in enumerate(methods):
            if i not in found and (last or method.exhausted or not method.finite):
                found[i] = method.quadrature()
    return [found[i] for i in range(len(methods))]


@MEASURES.register(LogDeterminant)
def log_determinant(
    risk: EmpiricalRisk, specification: LogDeterminant, seed: int, progress: ProgressCallback
) -> MeasureOutcome:
    """Compute log det(H + δI).

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: random seed of the starting vectors.
        progress: called for each starting vector.

    Returns:
        one quantity per matrix; NaN and the status ``indefinite`` if H + δI is not positive definite.
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
        mean, error = spectrum.mean(lambda nodes: np.log(nodes + specification.damping))
        stderr = None if error is None else operator.size * error
        quantities.append(Quantity(figure, operator.size * mean, stderr, diagnostics=diagnostics))
    return MeasureOutcome(quantities, COST * products)


@MEASURES.register(SpectralDensity)
def density(
    risk: EmpiricalRisk, specification: SpectralDensity, seed: int, progress: ProgressCallback
) -> MeasureOutcome:
    """Compute summary quantities of the density of eigenvalues.

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: random seed of the starting vectors.
        progress: called for each starting vector.

    Returns:
        for each matrix the fractions of its eigenvalues that are negative (``negative_mass``) and zero (``zero_mass``);
        the diagnostics of the former have the density on a grid.
    """
    quantities, products = [], 0
    for name, operator in operators(risk, specification):
        spectrum = quadrature(operator, specification.probes, specification.steps, seed, progress)
        products += spectrum.products
        largest = max(abs(spectrum.smallest), abs(spectrum.largest))
        near = specification.negligible * largest
        negative = spectrum.mean(lambda nodes, near=near: (nodes < -near).astype(float))
        zero = spectrum.mean(lambda nodes, near=near: (np.abs(nodes) <= near).astype(float))
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
    return MeasureOutcome(quantities, COST * products)


def grid(spectrum: Spectrum, specification: SpectralDensity) -> tuple[Float[np.ndarray, " points"], float]:
    """Return the grid of the density.

    Args:
        spectrum: spectrum of the matrix.
        specification: number of points, and the width of the Gaussians.

    Returns:
        eigenvalues on the grid, which extends five deviations beyond the nodes; and the deviation.
    """
    span = spectrum.largest - spectrum.smallest
    deviation = specification.width * (span if span > 0 else max(abs(spectrum.largest), 1.0))
    margin = 5 * deviation
    return np.linspace(spectrum.smallest - margin, spectrum.largest + margin, specification.points), deviation
