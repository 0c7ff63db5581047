"""From a specification to a network: initialiser, finite forward pass, infinite-width kernel."""

from __future__ import annotations

from nngp_prior.architectures.fcn import Network, network

__all__ = ["Network", "network"]
