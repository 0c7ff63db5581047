"""Versions of the software that numbers depend on."""

from __future__ import annotations

import functools
import importlib.metadata

PACKAGE = "nngp-prior"
__version__ = importlib.metadata.version(PACKAGE)


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of the packages that results depend on."""
    packages = (PACKAGE, "numpy", "scipy", "jax", "jaxlib", "matfree", "optax")
    return {package: importlib.metadata.version(package) for package in packages}
