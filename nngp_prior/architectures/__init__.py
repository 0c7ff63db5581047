"""From a specification to a network: initialiser, finite forward pass, infinite-width kernel."""

from __future__ import annotations

from nngp_prior.architectures.layers import layers_of
from nngp_prior.architectures.stax_network import Network, network

__all__ = ["Network", "layers_of", "network"]
