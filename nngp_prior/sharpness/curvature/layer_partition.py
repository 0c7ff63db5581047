r"""Networks cut at a dense layer: what goes into it, and the loss as a function of what comes out of it.

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
    """A network around one of its dense layers, z = aᵀ W + b. All methods are to be traced by JAX.

    Attributes:
        block: where the layer's weights W are, (fan-in, units).
        place: of the layer among the entries of the parameters.
        before: the layers before it.
        layer: itself.
        after: those after it.
    """

    block: ParameterBlock
    place: int
    before: Network
    layer: Network
    after: Network

    @property
    def fan_in(self) -> int:
        """Of the layer."""
        return self.block.shape[0]

    @property
    def units(self) -> int:
        """Of the layer."""
        return self.block.shape[1]

    def weights(self, parameters: Parameters) -> Float[Array, "fan_in units"]:
        """W of the network's parameters."""
        return parameters[self.place][0]

    def inputs(self, parameters: Parameters, X: Float[Array, "b ..."]) -> Float[Array, "b fan_in"]:
        """The layer's inputs a.

        Args:
            parameters: of the network.
            X: inputs of the network.

        Returns:
            one row an input.
        """
        return self.before.apply(parameters[: self.place], X)

    def preactivations(self, parameters: Parameters, a: Float[Array, "b fan_in"]) -> Float[Array, "b units"]:
        """The layer's outputs z.

        Args:
            parameters: of the network.
            a: inputs of the layer.

        Returns:
            one row an input.
        """
        return self.layer.apply(parameters[self.place : self.place + 1], a)

    def outputs(self, parameters: Parameters, z: Float[Array, "b units"]) -> Float[Array, " b"]:
        """The network's outputs f.

        Args:
            parameters: of the network.
            z: outputs of the layer.

        Returns:
            one output a row.
        """
        return self.after.apply(parameters[self.place + 1 :], z).reshape(len(z))


@functools.lru_cache(maxsize=32)
def cuts(network: FiniteNetwork) -> dict[str, Cut]:
    """The dense layers of a network.

    Args:
        network: the finite network.

    Returns:
        by their names, from the input on; none of a user's own network, whose layers nobody knows.
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
    """The dense layers that an option names.

    Args:
        network: the finite network.
        layer: a name, ``each``, or None for the output layer.

    Returns:
        by what was asked: None alone, or names.

    Raises:
        InvalidInput: there is no such layer, it is not dense, or it is of a user's own network.
    """
    found = cuts(network)
    if not found:
        problem = f"nobody knows the layers of {network.architecture.name!r}"  # pyright: ignore[reportAttributeAccessIssue]
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
    r"""Σ_{s,s'} G_{ss'} Tr H_{s,s'} of some examples, to be traced and differentiated by JAX.

    Args:
        cut: the network around the layer.
        loss: ℓ.
        parameters: of the network.
        X: inputs.
        y: labels.
        weights: of the examples: 1/b for their mean.
        G: symmetric. WᵀW gives κ_Tr, the identity the trace of the layer's Hessian.
        scale: factors of the layer's inputs a; 1 when absent.

    Returns:
        the number.
    """
    a = cut.inputs(parameters, X)
    z = cut.preactivations(parameters, a)
    sizes = weights * jnp.sum((a if scale is None else a * scale) ** 2, axis=1)

    # Σ ‖a‖² G_ss' ∂²ℓ/∂z_s ∂z_s', the units s one after another
    @jax.checkpoint
    def unit(total: Array, s: Array) -> tuple[Array, None]:
        return total + sizes @ (curvature_of_unit(cut, loss, parameters, z, y, s) @ G[s]), None

    return lax.scan(unit, jnp.zeros((), z.dtype), jnp.arange(cut.units))[0]


def curvature_of_unit(
    cut: Cut, loss: Loss, parameters: Parameters, z: Float[Array, "b units"], y: Float[Array, " b"], s: Array
) -> Float[Array, "b units"]:
    """∂²ℓ/∂z_s ∂z of each example (JAX-traceable).

    Args:
        cut: the network around the layer.
        loss: ℓ.
        parameters: of the network.
        z: outputs of the layer.
        y: labels.
        s: number of a unit.

    Returns:
        one row an example.
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
    """κ_Tr of some examples, to be traced and differentiated by JAX: what FAM adds to the loss.

    Args:
        cut: the network around the layer.
        loss: ℓ.
        parameters: of the network.
        X: inputs.
        y: labels.
        weights: of the examples: 1/b for their mean.

    Returns:
        the number.
    """
    W = cut.weights(parameters)
    return weighted_trace(cut, loss, parameters, X, y, weights, W.T @ W)
