"""Finite networks from specifications: layers, initialiser, forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nngp_prior.architectures.from_network import FromNetwork
from nngp_prior.architectures.layers import layers_of
from nngp_prior.lazy import attributes

if TYPE_CHECKING:
    from nngp_prior.architectures.finite_networks import Network, network, network_of

__all__ = ["FromNetwork", "Network", "layers_of", "network", "network_of"]

# Loads JAX.
__getattr__, __dir__ = attributes(
    __name__, dict.fromkeys(("Network", "network", "network_of"), "nngp_prior.architectures.finite_networks"), __all__
)
