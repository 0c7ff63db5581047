r"""Networks partitioned at a dense layer: its inputs, and the loss as a function of its outputs.

A dense layer with inputs a and outputs z = aᵀ W + b has the Hessian, with respect to weights w_s and w_s' into units
s and s',

.. math:: H_{s,s'} = E\left[\frac{∂^2 \ell}{∂z_s ∂z_{s'}}\, a a^T\right] .
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from nngp_prior.architectures import FromNetwork, Network, layers_of, network_of
from nngp_prior.architectures.layers import Dense
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.measures.curvature import EACH
from nngp_prior.sharpness.risk.losses import Loss
from nngp_prior.sharpness.risk.networks import FiniteNetwork, ParameterBlock, Parameters


@dataclass(frozen=True, eq=False)
class Cut:
    """A network around one of its dense layers, z = aᵀ W + b. All methods are JAX-traceable.

    Attributes:
        block: position of the layer's weights W, (fan-in, units).
        place: index of the layer among the entries of the parameters.
        before: layers before it.
        layer: the layer.
        after: layers after it.
    """

    block: ParameterBlock
    place: int
    before: Network
    layer: Network
    after: Network

    @property
    def fan_in(self) -> int:
        """Number of inputs of the layer."""
        return self.block.shape[0]

    @property
    def units(self) -> int:
        """Number of outputs of the layer."""
        return self.block.shape[1]

    def weights(self, parameters: Parameters) -> Float[Array, "fan_in units"]:
        """Return W from the network's parameters."""
        return parameters[self.place][0]

    def inputs(self, parameters: Parameters, X: Float[Array, "b ..."]) -> Float[Array, "b fan_in"]:
        """Return the layer's inputs a.

        Args:
            parameters: parameters of the network.
            X: inputs of the network.

        Returns:
            one row per input.
        """
        return self.before.apply(parameters[: self.place], X)

    def preactivations(self, parameters: Parameters, a: Float[Array, "b fan_in"]) -> Float[Array, "b units"]:
        """Return the layer's outputs z.

        Args:
            parameters: parameters of the network.
            a: inputs of the layer.

        Returns:
            one row per input.
        """
        return self.layer.apply(parameters[self.place : self.place + 1], a)

    def outputs(self, parameters: Parameters, z: Float[Array, "b units"]) -> Float[Array, " b"]:
        """Return the network's outputs f.

        Args:
            parameters: parameters of the network.
            z: outputs of the layer.

        Returns:
            one output per row.
        """
        return self.after.apply(parameters[self.place + 1 :], z).reshape(len(z))


@functools.lru_cache(maxsize=32)
def cuts(network: FiniteNetwork) -> dict[str, Cut]:
    """Return the partitions of a network at its dense layers.

    Args:
        network: the finite network.

    Returns:
        partitions by layer name, from the input on; empty for a user's network, whose layers are unknown.
    """
    if isinstance(network.architecture, FromNetwork):
        return {}
    layers = layers_of(network.architecture)
    blocks = jax.tree.unflatten(network.structure, network.blocks)
    found = {}
    for place, layer in enumerate(layers):
        if isinstance(layer, Dense):
            block = jax.tree.leaves(blocks[place])[0]
            parts = (layers[:place], layers[place : place + 1], layers[place + 1 :])
            found[block.layer] = Cut(block, place, *map(network_of, parts))
    return found


def cuts_asked(network: FiniteNetwork, layer: str | None) -> dict[str | None, Cut]:
    """Return the partitions selected by an option.

    Args:
        network: the finite network.
        layer: a name, ``each``, or None for the output layer.

    Returns:
        partitions by layer name, or by None for the output layer.

    Raises:
        InvalidInput: if there is no such layer, it is not dense, or it belongs to a user's network.
    """
    found = cuts(network)
    if not found:
        problem = f"the layers of {network.architecture.name!r} are unknown"  # pyright: ignore[reportAttributeAccessIssue]
        raise InvalidInput(
            "architecture", problem, "Give the network as a specification: FullyConnected, Convolutional, …"
        )
    if layer is None:
        return {None: found[next(reversed(found))]}
    if layer == EACH:
        return {**found}
    network.slice_of(layer)
    if layer not in found:
        problem = f"got {layer!r}, which shares its weights between places"
        raise InvalidInput("layer", problem, f"Choose a dense layer: {', '.join(found)}.")
    return {layer: found[layer]}


def weighted_trace(
    cut: Cut,
    loss: Loss,
    parameters: Parameters,
    X: Float[Array, "b ..."],
    y: Float[Array, " b"],
    weights: Float[Array, " b"],
    G: Float[Array, "units units"],
    scale: Float[Array, " fan_in"] | None = None,
) -> Float[Array, ""]:
    r"""Compute Σ_{s,s'} G_{ss'} Tr H_{s,s'} of a batch of examples (JAX-traceable, differentiable).

    Args:
        cut: the network around the layer.
        loss: ℓ.
        parameters: parameters of the network.
        X: inputs.
        y: labels.
        weights: weights of the examples: 1/b for their mean.
        G: symmetric matrix. WᵀW gives κ_Tr, the identity the trace of the layer's Hessian.
        scale: factors of the layer's inputs a. Default: 1.

    Returns:
        the weighted trace.
    """
    a = cut.inputs(parameters, X)
    z = cut.preactivations(parameters, a)
    sizes = weights * jnp.sum((a if scale is None else a * scale) ** 2, axis=1)

    # Σ ‖a‖² G_ss' ∂²ℓ/∂z_s ∂z_s', one unit s at a time
    @jax.checkpoint
    def unit(total: Array, s: Array) -> tuple[Array, None]:
        return total + sizes @ (curvature_of_unit(cut, loss, parameters, z, y, s) @ G[s]), None

    return lax.scan(unit, jnp.zeros((), z.dtype), jnp.arange(cut.units))[0]


def curvature_of_unit(
    cut: Cut, loss: Loss, parameters: Parameters, z: Float[Array, "b units"], y: Float[Array, " b"], s: Array
) -> Float[Array, "b units"]:
    """Compute ∂²ℓ/∂z_s ∂z of each example (JAX-traceable).

    Args:
        cut: the network around the layer.
        loss: ℓ.
        parameters: parameters of the network.
        z: outputs of the layer.
        y: labels.
        s: index of a unit.

    Returns:
        one row per example.
    """
    gradient = jax.grad(lambda z: loss(cut.outputs(parameters, z), y).sum())
    unit = jnp.zeros_like(z).at[:, s].set(1)
    return jax.jvp(gradient, (z,), (unit,))[1]


def kappa_trace(
    cut: Cut,
    loss: Loss,
    parameters: Parameters,
    X: Float[Array, "b ..."],
    y: Float[Array, " b"],
    weights: Float[Array, " b"],
) -> Float[Array, ""]:
    """Compute κ_Tr of a batch of examples, the penalty of FAM (JAX-traceable, differentiable).

    Args:
        cut: the network around the layer.
        loss: ℓ.
        parameters: parameters of the network.
        X: inputs.
        y: labels.
        weights: weights of the examples: 1/b for their mean.

    Returns:
        κ_Tr.
    """
    W = cut.weights(parameters)
    return weighted_trace(cut, loss, parameters, X, y, weights, W.T @ W)
