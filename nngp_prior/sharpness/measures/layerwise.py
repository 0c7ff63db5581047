r"""Measures composed of each layer's norm and trace, invariant under rescaling of layers.

If W_l becomes c W_l and the function does not change, Tr H_l becomes Tr H_l / c², with H_l the Hessian with respect to
W_l: hence ‖W_l‖² Tr H_l is invariant, and so is Π_l Tr H_l if the product of all factors is 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from nngp_prior.errors import InvalidInput
from nngp_prior.numerics.random import generator
from nngp_prior.progress import Progress, ProgressCallback
from nngp_prior.schemas.measures.curvature import Eigenvalues
from nngp_prior.schemas.measures.layerwise import MinimumSharpness, ScaledEigenvalue, WeightCurvatureIndex
from nngp_prior.sharpness.curvature.layer_partition import cuts
from nngp_prior.sharpness.curvature.operators import COST, operator_of
from nngp_prior.sharpness.curvature.submatrix import Selection
from nngp_prior.sharpness.measures.eigenvalues import extremes
from nngp_prior.sharpness.measures.registry import CHECKS, MEASURES, MeasureOutcome, Quantity
from nngp_prior.sharpness.measures.relative_flatness import layer_trace
from nngp_prior.sharpness.measures.trace import mean_and_error, quadratics
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.losses import LOSSES, curvature
from nngp_prior.sharpness.risk.networks import ParameterBlock, high_precision

_OfTraces = MinimumSharpness | WeightCurvatureIndex


def _weights(risk: EmpiricalRisk) -> dict[str, list[ParameterBlock]]:
    """Weight arrays of each layer that has any."""
    found: dict[str, list[ParameterBlock]] = {}
    for block in risk.blocks:
        if block.role == "weight":
            found.setdefault(block.layer, []).append(block)
    return found


def _norms(risk: EmpiricalRisk) -> dict[str, float]:
    """‖W_l‖_F by layer."""
    theta = np.asarray(risk.theta)
    return {
        layer: math.sqrt(sum(float(np.sum(theta[block.start : block.stop] ** 2)) for block in blocks))
        for layer, blocks in _weights(risk).items()
    }


def _check_weights(risk: EmpiricalRisk) -> None:
    if not _weights(risk):
        raise InvalidInput("architecture", "has no array of weights", "Measure a network with weights.")


def _check_traces(risk: EmpiricalRisk, specification: _OfTraces) -> None:
    _check_weights(risk)
    if specification.traces == "exact" and not risk.network.piecewise_linear and not _is_dense(risk):
        problem_ = "there is no closed form for these layers and this activation"
        raise InvalidInput("traces", problem_, "Pass a number of random vectors, or 'basis'.")


CHECKS.register(MinimumSharpness)(_check_traces)
CHECKS.register(WeightCurvatureIndex)(_check_traces)


@CHECKS.register(ScaledEigenvalue)
def _check_scaled(risk: EmpiricalRisk, specification: ScaledEigenvalue) -> None:
    del specification
    _check_weights(risk)


def _is_dense(risk: EmpiricalRisk) -> bool:
    return cuts(risk.network).keys() == _weights(risk).keys()


# Tr H_l and its standard error, by layer; and the total cost in gradients.
_Traces = tuple[dict[str, tuple[float, float | None]], int]


def _traces(risk: EmpiricalRisk, traces: str | int, seed: int, progress: ProgressCallback) -> _Traces:
    layers = _weights(risk)
    if traces == "exact":
        with high_precision():
            if risk.network.piecewise_linear:
                values = dict(zip(layers, map(float, _piecewise_linear(risk)), strict=True))
                cost = 1
            else:
                found = cuts(risk.network)
                values = {layer: float(layer_trace(risk, cut)) for layer, cut in found.items()}
                cost = COST * sum(cut.units for cut in found.values())
        return {layer: (value, None) for layer, value in values.items()}, cost
    H, result, gradients = operator_of(risk, "hessian"), {}, 0
    for done, (layer, blocks) in enumerate(layers.items()):
        places = np.concatenate([np.arange(block.start, block.stop) for block in blocks])
        own_seed = int(generator(seed, "layer", layer).integers(2**63))
        block = Selection.of(H, places)
        values = quadratics(block, traces, own_seed)
        result[layer] = mean_and_error(values, traces)
        gradients += len(values) * block.cost_of_quadratic
        progress(Progress("layers", done + 1, len(layers)))
    return result, gradients


@jax.jit
def _piecewise_linear(risk: EmpiricalRisk) -> Array:
    """Tr H_l by layer: f is affine in its weights, so that H_l = E[ℓ'' ∇_l f ∇_l fᵀ]."""
    loss, layers = LOSSES[risk.loss_name], _weights(risk)

    def of_example(gradient: Array, f: Array, y: Array) -> Array:
        squares = [sum(jnp.sum(gradient[b.start : b.stop] ** 2) for b in blocks) for blocks in layers.values()]
        return curvature(loss, f[None], y[None])[0] * jnp.stack(squares)

    return risk.mean_over_gradients(of_example, risk.theta)


def _figure(
    risk: EmpiricalRisk,
    specification: _OfTraces,
    seed: int,
    progress: ProgressCallback,
    name: str,
    combine: Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]],
) -> MeasureOutcome:
    """Function of all layers' norms and traces; standard error from its derivatives by the delta method."""
    found, cost = _traces(risk, specification.traces, seed, progress)
    norms = _norms(risk)
    diagnostics = {"traces": {layer: value for layer, (value, _) in found.items()}, "norms": norms}
    values = np.array([value for value, _ in found.values()])
    errors = [error for _, error in found.values() if error is not None]
    if (values < 0).any():
        worst = min(found, key=lambda layer: found[layer][0])
        more = "; take more random vectors, or traces='exact'" if errors else ""
        message = f"Tr H of {worst} is {found[worst][0]:.3g}: a negative trace has no root{more}"
        return MeasureOutcome([Quantity(name, math.nan, None, "indefinite", message, diagnostics)], cost)
    value, derivatives = combine(np.array(list(norms.values())), values)
    stderr = float(np.linalg.norm(derivatives * errors)) if errors else None
    return MeasureOutcome([Quantity(name, value, stderr, diagnostics=diagnostics)], cost)


@MEASURES.register(MinimumSharpness)
def minimum_sharpness(
    risk: EmpiricalRisk, specification: MinimumSharpness, seed: int, progress: ProgressCallback
) -> MeasureOutcome:
    """Compute D (Π_l Tr H_l)^{1/D}.

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: random seed of random vectors.
        progress: called for each layer.

    Returns:
        ``minimum_sharpness``; the diagnostics have the traces and the norms of weights, by layer.
    """

    def combine(norms: np.ndarray, traces: np.ndarray) -> tuple[float, np.ndarray]:
        if not traces.all():
            return 0.0, np.zeros(len(norms))
        # D (Π T_l)^{1/D}; its derivative by T_l is (Π T_l)^{1/D} / T_l
        value = len(traces) * float(np.exp(np.mean(np.log(traces))))
        return value, value / len(traces) / traces

    return _figure(risk, specification, seed, progress, "minimum_sharpness", combine)


@MEASURES.register(WeightCurvatureIndex)
def weight_curvature_index(
    risk: EmpiricalRisk, specification: WeightCurvatureIndex, seed: int, progress: ProgressCallback
) -> MeasureOutcome:
    """Compute Σ_l √(‖W_l‖_F² Tr H_l).

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: random seed of random vectors.
        progress: called for each layer.

    Returns:
        ``weight_curvature_index``; the diagnostics have the traces and the norms of weights, by layer.
    """

    def combine(norms: np.ndarray, traces: np.ndarray) -> tuple[float, np.ndarray]:
        # Σ ‖W_l‖ √T_l; its derivative by T_l is ‖W_l‖ / (2 √T_l)
        roots = np.sqrt(traces)
        return float(norms @ roots), np.divide(norms, 2 * roots, out=np.zeros_like(norms), where=roots > 0)

    return _figure(risk, specification, seed, progress, "weight_curvature_index", combine)


@MEASURES.register(ScaledEigenvalue)
def scaled_eigenvalue(
    risk: EmpiricalRisk, specification: ScaledEigenvalue, seed: int, progress: ProgressCallback
) -> MeasureOutcome:
    """Compute λ_max(S H S).

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: random seed of the first vector.
        progress: called for each product.

    Returns:
        ``scaled_lambda_max``.
    """
    norms, layers = _norms(risk), _weights(risk)
    blocks = [(norms[layer], block) for layer, parts in layers.items() for block in parts]
    places = np.concatenate([np.arange(block.start, block.stop) for _, block in blocks])
    scales = np.concatenate([np.full(block.stop - block.start, norm) for norm, block in blocks])
    wanted = Eigenvalues(largest=1, smallest=0, tolerance=specification.tolerance, max_steps=specification.max_steps)
    found = extremes(Selection.of(operator_of(risk, "hessian"), places, scales), wanted, seed, progress)
    value, residual = float(found.values[-1]), float(found.residuals[-1])
    status, message = "ok", ""
    if math.isfinite(value) and not found.converged[-1]:
        status = "not-converged"
        message = f"the residual is {residual:.2g} after {found.steps} steps; raise max_steps or the tolerance"
    diagnostics = {"residual": residual, "steps": found.steps, "norms": norms}
    return MeasureOutcome([Quantity("scaled_lambda_max", value, None, status, message, diagnostics)], found.gradients)
