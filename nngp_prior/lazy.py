"""Names of a package that load their module when they are first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence


def attributes(
    package: str, homes: Mapping[str, str], names: Sequence[str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """The ``__getattr__`` and the ``__dir__`` of a package.

    Args:
        package: its name.
        homes: the module of each lazy name.
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
