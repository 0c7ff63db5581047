"""Tolerance of the accuracy to noise in the parameters: σ of PAC-Bayes bounds."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from nngp_prior.numerics.random import generator
from nngp_prior.progress import Progress, ProgressCallback
from nngp_prior.schemas.measures.neighbourhoods import PACBayes
from nngp_prior.schemas.statistics import mean_with_error
from nngp_prior.sharpness.measures.projected_ascent import FORWARD
from nngp_prior.sharpness.measures.registry import MEASURES, MeasureOutcome, Quantity
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.networks import high_precision

_WINDOW = 2**0.25  # factor: the slope at σ is taken from σ / factor to σ * factor
_DOUBLINGS = 40


@jax.jit(static_argnames="count")
def _errors(risk: EmpiricalRisk, key: Array, deviations: Array, count: int) -> Array:
    """Error under each of the random vectors, scaled by the deviations."""

    def one(i: Array) -> Array:
        z = jax.random.normal(jax.random.fold_in(key, i), deviations.shape, deviations.dtype)
        return risk.error(risk.theta + deviations * z)

    return lax.map(one, jnp.arange(count))


def deviations_of(theta: Float[np.ndarray, " P"], sigma: float, specification: PACBayes) -> Float[np.ndarray, " P"]:
    """Standard deviations of the noise in each parameter.

    Args:
        theta: parameters.
        sigma: σ.
        specification: options of the measure.

    Returns:
        σ, or √(σ² w² + ε²); their squares in the compatibility mode.
    """
    uniform = specification.noise == "uniform"
    variances = np.full_like(theta, sigma**2) if uniform else (sigma * theta) ** 2 + specification.epsilon**2
    return variances if specification.compatibility == "dziugaite2020" else np.sqrt(variances)


class _Drop:
    """Drop of the accuracy as a function of σ, with a count of its evaluations."""

    def __init__(self, risk: EmpiricalRisk, specification: PACBayes, seed: int, progress: ProgressCallback) -> None:
        self.evaluations = 0
        self.error = float(risk.error(risk.theta))
        self._problem, self._specification, self._progress = risk, specification, progress
        self._key = int(generator(seed, "perturbations").integers(2**32))

    def of_each(self, sigma: float) -> Float[np.ndarray, " count"]:
        """Return the drop under each random vector."""
        deviations = deviations_of(np.asarray(self._problem.theta), sigma, self._specification)
        with high_precision():
            key = jax.random.key(self._key)
            errors = _errors(self._problem, key, jnp.asarray(deviations), self._specification.perturbations)
        self.evaluations += 1
        self._progress(Progress("values of σ", self.evaluations, self.evaluations + 1))
        return np.asarray(errors) - self.error

    def __call__(self, sigma: float) -> float:
        return float(self.of_each(sigma).mean())


@MEASURES.register(PACBayes)
def pac_bayes(risk: EmpiricalRisk, specification: PACBayes, seed: int, progress: ProgressCallback) -> MeasureOutcome:
    """Compute 1/σ², with σ the largest deviation at which the expected drop of the accuracy is within the limit.

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: random seed of the noise.
        progress: called for each σ.

    Returns:
        one quantity; its standard error is that of the drop divided by its slope in log σ (delta method).
    """
    drop = _Drop(risk, specification, seed, progress)
    name = "pac_bayes" + ("_magnitude" if specification.noise == "magnitude" else "")
    low, high = _bracket(drop, specification.drop)
    if low is None or high is None:
        where = f"at no σ up to {low:.0e}; pass a smaller drop" if low else f"at any σ down to {high:.0e}"
        if high and specification.noise == "magnitude":
            where += "; pass a smaller epsilon"
        message = (
            f"the accuracy drops by more than {specification.drop:g} from that of an error of {drop.error:.3g} {where}"
        )
        quantity = Quantity(name, math.nan, None, "degenerate", message, {"training_error": drop.error})
        return _ended(drop, specification, quantity, progress)
    while high / low > 1 + specification.tolerance:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if drop(middle) <= specification.drop else (low, middle)
    sigma = math.sqrt(low * high)
    at_sigma = drop.of_each(sigma)
    mean_drop, error_of_drop = mean_with_error(at_sigma)
    slope = (drop(sigma * _WINDOW) - drop(sigma / _WINDOW)) / (2 * math.log(_WINDOW))
    # v = σ⁻²: δv = 2 v δ log σ, and δ log σ = δ drop / (∂ drop / ∂ log σ)
    value = sigma**-2
    stderr = 2 * value * error_of_drop / slope if slope > 0 else math.inf
    diagnostics = {"sigma": sigma, "drop": mean_drop, "drop_stderr": error_of_drop, "slope": slope}
    diagnostics["training_error"] = drop.error
    return _ended(drop, specification, Quantity(name, value, stderr, diagnostics=diagnostics), progress)


def _bracket(drop: _Drop, limit: float) -> tuple[float | None, float | None]:
    """Return σ and 2σ between which the drop crosses the limit; one is None if there is no crossing."""
    sigma = 1.0
    if drop(sigma) > limit:
        for _ in range(_DOUBLINGS):
            sigma /= 2
            if drop(sigma) <= limit:
                return sigma, 2 * sigma
        return None, sigma
    for _ in range(_DOUBLINGS):
        sigma *= 2
        if drop(sigma) > limit:
            return sigma / 2, sigma
    return sigma, None


def _ended(drop: _Drop, specification: PACBayes, quantity: Quantity, progress: ProgressCallback) -> MeasureOutcome:
    progress(Progress("values of σ", drop.evaluations, drop.evaluations))
    return MeasureOutcome([quantity], FORWARD * (1 + drop.evaluations * specification.perturbations))
