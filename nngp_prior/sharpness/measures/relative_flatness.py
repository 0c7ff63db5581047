r"""Relative flatness of dense layers (Petzka, Kamp, Adilova, Sminchisescu and Boley 2021, arXiv 2001.00939).

With the Hessian of a dense layer with inputs a and outputs z (:mod:`nngp_prior.sharpness.curvature.layer_partition`),

.. math:: κ_{Tr} = \sum_{s,s'} ⟨w_s, w_{s'}⟩ \mathrm{Tr} H_{s,s'}
    = E\left[‖a‖^2 \sum_{s,s'} ⟨w_s, w_{s'}⟩ \frac{∂^2 \ell}{∂z_s ∂z_{s'}}\right],

without a product of the Hessian with a vector of P numbers.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float
from scipy.linalg import eigh

from nngp_prior.progress import Progress, ProgressCallback
from nngp_prior.schemas.measures.curvature import Eigenvalues
from nngp_prior.schemas.measures.layerwise import RelativeFlatness
from nngp_prior.sharpness.curvature.layer_partition import Cut, curvature_of_unit, cuts_asked, weighted_trace
from nngp_prior.sharpness.curvature.operators import COST, operator_of
from nngp_prior.sharpness.curvature.submatrix import Selection
from nngp_prior.sharpness.measures.eigenvalues import extremes
from nngp_prior.sharpness.measures.names import of_layer
from nngp_prior.sharpness.measures.registry import CHECKS, MEASURES, MeasureOutcome, Quantity
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.losses import LOSSES
from nngp_prior.sharpness.risk.networks import high_precision

_DENSE = 1024  # maximal number of rows for computing all eigenvalues, which is exact to rounding
_CONSTANT = 100  # units of rounding of a feature's size up to which its standard deviation counts as zero


@jax.jit(static_argnames="cut")
def layer_trace(risk: EmpiricalRisk, cut: Cut) -> Float[Array, ""]:
    """Trace of the Hessian with respect to a dense layer's weights; call inside ``with high_precision():``.

    Args:
        risk: network, loss and data.
        cut: the network around the layer.

    Returns:
        the trace.
    """
    return _mean(risk, cut, jnp.eye(cut.units, dtype=risk.dtype), None)


@jax.jit(static_argnames="cut")
def _kappa_trace(risk: EmpiricalRisk, cut: Cut, deviations: Array, factors: Array) -> Array:
    W = deviations[:, None] * cut.weights(risk.unravel(risk.theta))
    return _mean(risk, cut, W.T @ W, factors)


def _mean(risk: EmpiricalRisk, cut: Cut, G: Array, scale: Array | None) -> Array:
    loss, parameters = LOSSES[risk.loss_name], risk.unravel(risk.theta)
    return risk.total(lambda X, y, w: weighted_trace(cut, loss, parameters, X, y, w, G, scale))


@jax.jit(static_argnames="cut")
def _unit_hessian(risk: EmpiricalRisk, cut: Cut, s: Array, factors: Array) -> Float[Array, "fan_in fan_in"]:
    """H_ss with respect to normalised weights."""
    loss, parameters = LOSSES[risk.loss_name], risk.unravel(risk.theta)

    def part(X: Array, y: Array, w: Array) -> Array:
        a = cut.inputs(parameters, X)
        z = cut.preactivations(parameters, a)
        a = a * factors
        # H_ss = E[∂²ℓ/∂z_s² a aᵀ]
        return (a.T * (w * curvature_of_unit(cut, loss, parameters, z, y, s)[:, s])) @ a

    return risk.total(part)


@jax.jit(static_argnames="cut")
def _spread(risk: EmpiricalRisk, cut: Cut) -> tuple[Array, Array]:
    """Root mean square and standard deviation of each input of a layer."""
    parameters = risk.unravel(risk.theta)

    def mean(function):
        return risk.total(lambda X, y, w: w @ function(cut.inputs(parameters, X)))

    centre = mean(lambda a: a)
    return jnp.sqrt(mean(lambda a: a**2)), jnp.sqrt(mean(lambda a: (a - centre) ** 2))


@CHECKS.register(RelativeFlatness)
def check(risk: EmpiricalRisk, specification: RelativeFlatness) -> None:
    """Raise an error if a layer does not exist or is not dense.

    Args:
        risk: risk of the network with the layer.
        specification: options of the measure.
    """
    cuts_asked(risk.network, specification.layer)


@MEASURES.register(RelativeFlatness)
def relative_flatness(
    risk: EmpiricalRisk, specification: RelativeFlatness, seed: int, progress: ProgressCallback
) -> MeasureOutcome:
    """Compute κ_Tr and κ.

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: random seed of the first vectors of Lanczos' method, for layers with many inputs.
        progress: called for each unit.

    Returns:
        ``kappa_tr`` and ``kappa`` of each selected layer.
    """
    quantities, gradients = [], 0
    for name, cut in cuts_asked(risk.network, specification.layer).items():
        about = {"layer": cut.block.layer, "fan_in": cut.fan_in, "units": cut.units}
        deviations, constant = np.ones(cut.fan_in), np.zeros(0, dtype=int)
        if specification.normalise:
            deviations, constant = _deviations(risk, cut)
            gradients += 1
        message = ""
        if len(constant):
            message = f"input {constant[0]} of the layer is the same for all data and not 0, hence has no deviation"
        kappas = {"kappa_tr": _tracial, **({"kappa": _maximal} if specification.eigenvalues else {})}
        for figure, function in kappas.items():
            if message:
                quantities.append(Quantity(figure + of_layer(name), math.nan, None, "degenerate", message, about))
                continue
            value, cost, unsure = function(risk, cut, deviations, seed, progress)
            gradients += cost
            status = "not-converged" if unsure else "ok"
            quantities.append(Quantity(figure + of_layer(name), value, None, status, unsure, about))
    return MeasureOutcome(quantities, gradients)


def _deviations(risk: EmpiricalRisk, cut: Cut) -> tuple[Float[np.ndarray, " fan_in"], np.ndarray]:
    """Standard deviations of the layer's inputs, and a mask of the constant non-zero inputs."""
    with high_precision():
        sizes, deviations = map(np.array, _spread(risk, cut))
    none = deviations <= _CONSTANT * np.finfo(deviations.dtype).eps * sizes
    deviations[none] = 0
    return deviations, np.flatnonzero(none & (sizes > 0))


def _inverse(deviations: np.ndarray) -> np.ndarray:
    """1/σ; 0 for inputs that are always 0, which do not contribute."""
    return np.divide(1, deviations, out=np.zeros_like(deviations), where=deviations > 0)


def _tracial(
    risk: EmpiricalRisk, cut: Cut, deviations: np.ndarray, seed: int, progress: ProgressCallback
) -> tuple[float, int, str]:
    del seed, progress
    with high_precision():
        factors = jnp.asarray(_inverse(deviations), risk.dtype)
        value = float(_kappa_trace(risk, cut, jnp.asarray(deviations, risk.dtype), factors))
    return value, COST * cut.units, ""


def _maximal(
    risk: EmpiricalRisk, cut: Cut, deviations: np.ndarray, seed: int, progress: ProgressCallback
) -> tuple[float, int, str]:
    W = np.asarray(risk.theta)[cut.block.start : cut.block.stop].reshape(cut.block.shape)
    # ‖w_s‖² of normalised weights
    squares = np.sum((deviations[:, None] * W) ** 2, axis=0)
    factors, places = _inverse(deviations), np.arange(cut.block.start, cut.block.stop).reshape(cut.block.shape)
    total, gradients, unsure = 0.0, 0, 0
    H = None if cut.fan_in <= _DENSE else operator_of(risk, "hessian")
    for s in range(cut.units):
        if H is None:
            with high_precision():
                H_ss = np.asarray(_unit_hessian(risk, cut, jnp.asarray(s), jnp.asarray(factors, risk.dtype)))
            last = cut.fan_in - 1
            finite = np.isfinite(H_ss).all()
            largest = eigh(H_ss, eigvals_only=True, subset_by_index=(last, last))[0] if finite else math.nan
            gradients += COST
        else:
            wanted = Eigenvalues(largest=1, smallest=0)
            found = extremes(Selection.of(H, places[:, s], factors), wanted, seed, lambda _: None)
            largest = found.values[-1]
            gradients += found.gradients
            unsure += math.isfinite(largest) and not found.converged[-1]
        # κ = Σ ‖w_s‖² λ_max(H_ss)
        total += float(squares[s] * largest)
        progress(Progress("units", s + 1, cut.units))
    message = f"Lanczos' method has not converged for {unsure} of {cut.units} units" if unsure else ""
    return total, gradients, message
