r"""Exact traces of the Fisher information, and the Fisher-Rao norm.

.. math:: F = \frac1n \sum_i c_i\, ∇f_i ∇f_i^T, \qquad c_i = \ell''(f_i) \text{ (model)} \text{ or } \ell'(f_i)^2
    \text{ (empirical)}

The model's F is the generalised Gauss-Newton matrix. If the network is piecewise linear (ReLU, leaky ReLU, identity; no
layer norm), f is affine in the parameters of each single layer, so that the other term of the Hessian, E[ℓ' ∇²f], has
no entries within a layer. Hence each layer's block of H is that of F, and Tr H = Tr F, for any loss of the output, and
also for filters that are shared between pixels. The empirical F has another trace.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.measures.curvature import FisherRaoNorm, FisherTrace
from nngp_prior.sharpness.curvature.dense_networks import has_formulas, squared_gradients
from nngp_prior.sharpness.measures.names import check_layer, layers_asked, of_layer
from nngp_prior.sharpness.measures.registry import CHECKS, MEASURES, MeasureOutcome, Quantity
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.losses import curvature, squared_slope
from nngp_prior.sharpness.risk.networks import high_precision

CHECKS.register(FisherTrace)(check_layer)


_FACTORS: dict[str, Callable[..., Array]] = {"model": curvature, "empirical": squared_slope}
_PREFIXES = {"model": "", "empirical": "empirical_"}


@jax.jit(static_argnames="fisher")
def _traces(risk: EmpiricalRisk, fisher: str) -> Array:
    """Trace of each layer's block."""
    loss = risk.output_loss
    if has_formulas(risk.network):

        def part(X: Array, y: Array, w: Array) -> Array:
            f, squares = squared_gradients(risk.network, risk.theta, X)
            return squares @ (w * _FACTORS[fisher](loss, f, y))

        return risk.total(part)
    places = [risk.network.slice_of(layer) for layer in risk.network.layers]

    def of_example(gradient: Array, f: Array, y: Array) -> Array:
        factor = _FACTORS[fisher](loss, f[None], y[None])[0]
        if risk.classes is None:
            return factor * jnp.stack([jnp.sum(gradient[start:stop] ** 2) for start, stop in places])
        # Tr JᵀCJ = Σ C_cd ∇f_c · ∇f_d
        parts = (gradient[:, start:stop] for start, stop in places)
        return jnp.stack([jnp.sum(factor * (part @ part.T)) for part in parts])

    return risk.mean_over_gradients(of_example, risk.theta)


def traces_of_layers(risk: EmpiricalRisk, fisher: str) -> dict[str, float]:
    """Compute Tr F of each layer's block, at the cost of a gradient.

    Args:
        risk: network, loss and data.
        fisher: ``model`` or ``empirical``.

    Returns:
        traces by layer name; their sum is the trace of the whole matrix.
    """
    with high_precision():
        return dict(zip(risk.network.layers, map(float, _traces(risk, fisher)), strict=True))


@MEASURES.register(FisherTrace)
def fisher_trace(
    risk: EmpiricalRisk, specification: FisherTrace, seed: int, progress: ProgressCallback
) -> MeasureOutcome:
    """Compute Tr F.

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: unused.
        progress: unused.

    Returns:
        one quantity, or one per layer.
    """
    del seed, progress
    of_layers = traces_of_layers(risk, specification.fisher)
    name = f"{_PREFIXES[specification.fisher]}fisher_trace"
    quantities = [
        Quantity(name + of_layer(layer), sum(of_layers.values()) if layer is None else of_layers[layer])
        for layer in layers_asked(risk, specification.layer)
    ]
    return MeasureOutcome(quantities, 1)


@jax.jit(static_argnames="fisher")
def _norm(risk: EmpiricalRisk, fisher: str) -> Array:
    theta = risk.theta

    def part(X: Array, y: Array, w: Array) -> Array:
        # θᵀ F θ = Σ w c (∇f·θ)²
        f, along = jax.jvp(lambda theta: risk.outputs(theta, X), (theta,), (theta,))
        factors = _FACTORS[fisher](risk.output_loss, f, y)
        if risk.classes is None:
            return w @ (factors * along**2)
        return w @ jnp.einsum("nc,ncd,nd->n", along, factors, along)

    return risk.total(part)


@MEASURES.register(FisherRaoNorm)
def fisher_rao_norm(
    risk: EmpiricalRisk, specification: FisherRaoNorm, seed: int, progress: ProgressCallback
) -> MeasureOutcome:
    """Compute θᵀ F θ.

    Args:
        risk: network, loss and data.
        specification: options of the measure.
        seed: unused.
        progress: unused.

    Returns:
        one quantity.
    """
    del seed, progress
    with high_precision():
        value = float(_norm(risk, specification.fisher))
    return MeasureOutcome([Quantity(f"{_PREFIXES[specification.fisher]}fisher_rao_norm", value)], 1)
