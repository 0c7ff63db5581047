"""Random seeds of users: integers, or JAX's random keys."""

from __future__ import annotations

import sys
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from nngp_prior.errors import InvalidInput


@runtime_checkable
class RandomKey(Protocol):
    """A random key of JAX, ``jax.random.key(…)``."""

    @property
    def dtype(self) -> Any:
        """Dtype of the key."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array of keys, ``()`` for one."""
        ...


SeedLike: TypeAlias = int | np.integer[Any] | RandomKey


def checked_seed(seed: object) -> int:
    """Convert a user's seed to an integer.

    Args:
        seed: an integer, or a random key of JAX; ``jax.random.key(i)`` is the seed i.

    Returns:
        an integer from 0 to 2⁶³ - 1.

    Raises:
        InvalidInput: if the seed is neither, or out of range.
    """
    number = _of_key(seed)
    if number is None and isinstance(seed, int | np.integer) and not isinstance(seed, bool):
        number = int(seed)
    if number is None or not 0 <= number < 2**63:
        shape = getattr(seed, "shape", ())
        given = f"an array of shape {shape}" if shape else repr(seed)
        raise InvalidInput("seed", f"got {given}", "Pass an integer from 0 to 2⁶³ - 1, or one random key of JAX.")
    return number


def plain_seed(seed: Any) -> Any:
    """Convert NumPy's integers and JAX's keys as :func:`checked_seed` does; return anything else as it is."""
    return checked_seed(seed) if isinstance(seed, np.integer) or _is_of_jax(seed) else seed


def _is_of_jax(seed: object) -> bool:
    jax = sys.modules.get("jax")  # a process with a key has loaded JAX
    return jax is not None and isinstance(seed, jax.Array)


def _of_key(seed: Any) -> int | None:
    """Return the last 63 bits of a key; None if the seed is not one key."""
    if not _is_of_jax(seed):
        return None
    jax = sys.modules["jax"]
    typed = jax.numpy.issubdtype(seed.dtype, jax.dtypes.prng_key)
    if seed.shape != (() if typed else (2,)) or not (typed or seed.dtype == np.uint32):
        return None
    words = np.asarray(jax.random.key_data(seed) if typed else seed)
    return int.from_bytes(words.astype(">u4").tobytes(), "big") % 2**63
