"""From a specification to a network: initialiser, finite forward pass, infinite-width kernel."""

from __future__ import annotations

from nngp_prior.architectures.from_network import FromNetwork
from nngp_prior.architectures.layers import layers_of
from nngp_prior.architectures.stax_network import Network, network, network_of

__all__ = ["FromNetwork", "Network", "layers_of", "network", "network_of"]
