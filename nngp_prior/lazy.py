"""Lazy package attributes, whose modules load on first use."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence


def attributes(
    package: str, homes: Mapping[str, str], names: Sequence[str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and the ``__dir__`` of a package.

    Args:
        package: name of the package.
        homes: module of each lazy name.
        names: public names, ``__all__``.

    Returns:
        both functions; the first raises AttributeError for names without a module.
    """

    def get(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(homes[name]), name)

    def public() -> list[str]:
        return sorted(names)

    return get, public
