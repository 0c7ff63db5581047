"""Errors of the service."""

from __future__ import annotations

from nngp_prior.errors import ResourceLimit


class StorageFull(ResourceLimit):
    """The disk has no room for what should be kept."""
