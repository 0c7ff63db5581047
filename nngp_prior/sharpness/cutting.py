"""Networks cut at a dense layer: what goes into it, and the outputs as a function of what comes out of it."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
from jax import Array
from jaxtyping import Float

from nngp_prior.architectures import FromNetwork, Network, layers_of, network_of
from nngp_prior.architectures.layers import Dense
from nngp_prior.errors import InvalidInput
from nngp_prior.sharpness.names import EACH
from nngp_prior.sharpness.networks import Block, FiniteNetwork, Parameters


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

    block: Block
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
        raise InvalidInput("architecture", problem, "Give the network as a specification: FullyConnected, Convolutional, …")
    if layer is None:
        return {None: found[next(reversed(found))]}
    if layer == EACH:
        return dict(found)
    network.slice_of(layer)
    if layer not in found:
        problem = f"got {layer!r}, which shares its weights between places"
        raise InvalidInput("layer", problem, f"Choose a dense layer: {', '.join(found)}.")
    return {layer: found[layer]}
