"""Versions of what numbers depend on."""

from __future__ import annotations

import functools
import importlib.metadata


@functools.cache
def versions() -> dict[str, str]:
    """Of the packages that results depend on."""
    packages = ("nngp-prior", "numpy", "scipy", "jax", "neural-tangents", "matfree", "optax")
    return {package: importlib.metadata.version(package) for package in packages}
