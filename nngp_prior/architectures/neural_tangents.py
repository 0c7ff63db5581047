"""neural-tangents, importable on today's JAX and without TensorFlow, for custom ``stax`` networks.

Needs the extra ``neural-tangents``. No other module of this package imports it; tests compare with it.

Version 0.6.5 is its last release. Names missing in newer JAX are added during the import and removed again; an empty
module replaces ``neural_tangents.experimental``, which needs TensorFlow and is not used by NNGP code.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
from collections.abc import Iterator

import jax.core
import jax.extend.core
from jax.interpreters import ad

from nngp_prior.extras import require_extra

_MOVED = ("Jaxpr", "JaxprEqn", "Literal", "Var", "Primitive")


@contextlib.contextmanager
def _as_neural_tangents_expects() -> Iterator[None]:
    added: list[tuple[object, str]] = []

    def add(owner: object, name: str, value: object) -> None:
        if not hasattr(owner, name):
            setattr(owner, name, value)
            added.append((owner, name))

    for name in _MOVED:
        add(jax.core, name, getattr(jax.extend.core, name))
    add(ad, "zeros_like_p", jax.extend.core.Primitive("zeros_like"))
    stand_in = None
    try:
        importlib.import_module("jax.util")
    except ModuleNotFoundError:
        stand_in = types.ModuleType("jax.util")
        stand_in.__dict__.update(safe_map=_safe_map, safe_zip=_safe_zip)
        sys.modules["jax.util"] = stand_in
    sys.modules.setdefault("neural_tangents.experimental", types.ModuleType("neural_tangents.experimental"))
    try:
        yield
    finally:
        for owner, name in added:
            delattr(owner, name)
        if stand_in is not None:
            del sys.modules["jax.util"]


def _safe_zip(*sequences):
    return list(zip(*sequences, strict=True))


def _safe_map(function, *sequences):
    return [function(*items) for items in zip(*sequences, strict=True)]


require_extra("neural-tangents")
with _as_neural_tangents_expects():
    from neural_tangents import batch, stax

__all__ = ["batch", "stax"]
