"""Inputs of a risk: copied if small, else left in the user's array and read chunk by chunk."""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Real

from nngp_prior.numerics.chunks import even_chunks, filled_up

_HELD_BYTES = 2**26  # maximal size of inputs that are copied
_DEVICE_BYTES = 2**32  # the same for an accelerator, which would have to wait for reads
_READ_BYTES = 2**24  # size of a chunk that is read
_PLACES = 2**14  # indices per read; a callback that is passed 100 KiB can wait for them for ever


@functools.partial(jax.tree_util.register_dataclass, data_fields=("stack",), meta_fields=())
@dataclass(frozen=True, eq=False)
class Held:
    """Inputs in JAX's memory.

    Attributes:
        stack: inputs, (chunks, rows, ...).
    """

    stack: Any  # an array, or a placeholder of JAX

    def chunk(self, i: Any) -> Float[Array, "rows ..."]:
        """Return a chunk (JAX-traceable).

        Args:
            i: index of the chunk.

        Returns:
            the inputs of the chunk, (rows, ...).
        """
        return self.stack[i]

    def take(self, rows: Any) -> Float[Array, "rows ..."]:
        """Return the inputs at given indices.

        Args:
            rows: array of indices of examples.

        Returns:
            one input per index, in the shape of ``rows``.
        """
        return self.stack.reshape(-1, *self.stack.shape[2:])[rows]


class _Source:
    """The user's array, kept alive by the risks that read from it."""

    def __init__(self, X: np.ndarray) -> None:
        self.X = X


_SOURCES: weakref.WeakValueDictionary[int, _Source] = weakref.WeakValueDictionary()
_NUMBERS = itertools.count()


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("number",),
    meta_fields=("shape", "stored", "dtype", "rows"),
    drop_fields=("source",),
)
@dataclass(frozen=True, eq=False)
class Read:
    """Inputs in NumPy's memory, or in a file mapped into memory, read one chunk at a time.

    Compiled functions refer to the array by a number, which is one of their arguments: they can be reused for other
    arrays and keep none alive.

    Attributes:
        number: number of the array, ().
        shape: shape of one input.
        stored: dtype of the array.
        dtype: dtype of the returned inputs.
        rows: number of inputs in a chunk; the last chunk is padded with copies of an input.
        source: the array; not passed to compiled functions.
    """

    number: Any  # an array, or a placeholder of JAX
    shape: tuple[int, ...]
    stored: str
    dtype: str
    rows: int
    source: _Source | None = None

    @classmethod
    def of(cls, X: Real[np.ndarray, "n ..."], dtype: str, rows: int) -> Read:
        """Create from an array, which must not be modified from now on.

        Args:
            X: inputs, (n, ...).
            dtype: dtype of the returned inputs.
            rows: number of inputs in a chunk.

        Returns:
            the inputs.
        """
        number, source = next(_NUMBERS), _Source(X)
        _SOURCES[number] = source
        return cls(jnp.asarray(number, np.uint32), X.shape[1:], X.dtype.name, dtype, rows, source)

    def __reduce__(self) -> tuple[Callable[..., Read], tuple[Any, ...]]:
        """Numbers are valid within one process only."""
        assert self.source is not None
        return Read.of, (self.source.X, self.dtype, self.rows)

    def chunk(self, i: Any) -> Float[Array, "rows ..."]:
        """Return a chunk; see :meth:`Held.chunk`."""
        rows = self.rows

        def read(number: Any, i: Any) -> np.ndarray:
            X = _array(number)
            return filled_up(X[int(i) * rows : (int(i) + 1) * rows], rows, X)

        return self._read(read, (rows,), i)

    def take(self, rows: Any) -> Float[Array, "rows ..."]:
        """Return the inputs at given indices; see :meth:`Held.take`."""
        rows = jnp.asarray(rows)
        places = rows.ravel()
        parts = [places[i : i + _PLACES] for i in range(0, rows.size, _PLACES)]
        found = [self._read(lambda number, of: _array(number)[np.asarray(of)], part.shape, part) for part in parts]
        return jnp.concatenate(found).reshape(*rows.shape, *self.shape)

    def _read(self, read: Callable[..., np.ndarray], leading: tuple[int, ...], where: Any) -> Array:
        shape, stored, dtype = (*leading, *self.shape), self.stored, self.dtype
        # XLA's own threads do not have the calling thread's 64-bit setting: JAX would round 64-bit types.
        wide = np.dtype(stored).itemsize > 4
        halves = wide and dtype == "float64"

        def passed(number: Any, where: Any) -> np.ndarray:
            found = read(number, where)
            if wide:
                found = np.ascontiguousarray(found, dtype)
            return found.view(np.uint32).reshape(*found.shape, 2) if halves else found

        sent = ((*shape, 2), "uint32") if halves else (shape, dtype if wide else stored)
        where = jnp.asarray(where, np.int32)
        found = jax.pure_callback(passed, jax.ShapeDtypeStruct(*sent), self.number, where, vmap_method="sequential")
        return lax.bitcast_convert_type(found, np.float64) if halves else found.astype(dtype)


def _array(number: Any) -> np.ndarray:
    source = _SOURCES.get(int(number))
    if source is None:
        raise RuntimeError("the risk that these inputs belong to is gone: keep it until all results are there")
    return source.X


def chunk_weights(n: int, most: int) -> Float[np.ndarray, "chunks rows"]:
    """Divide examples into as few chunks of equal size as possible; return their weights in a mean.

    Args:
        n: number of examples.
        most: maximal number of examples in a chunk.

    Returns:
        1/n for examples and 0 for the padding of the last chunk.
    """
    chunks, rows = even_chunks(n, most)
    return np.where(np.arange(chunks * rows) < n, 1 / n, 0.0).reshape(chunks, rows)


def laid_out(
    X: Real[np.ndarray, "n ..."], y: Real[np.ndarray, " n"], dtype: str, rows: int
) -> tuple[Held | Read, Float[Array, "chunks rows"], Float[Array, "chunks rows"]]:
    """Divide examples into chunks of equal size.

    Args:
        X: inputs, of any real dtype; must not be modified from now on if they are too large to be copied.
        y: labels.
        dtype: dtype of the results.
        rows: maximal number of examples in a chunk.

    Returns:
        inputs; labels; and weights, 1/n for examples and 0 for the padding of the last chunk.
    """
    n, of_input = len(X), X[0].size * np.dtype(dtype).itemsize
    held = n <= rows or n * of_input <= (_HELD_BYTES if jax.default_backend() == "cpu" else _DEVICE_BYTES)
    if not held:
        rows = min(rows, max(1, _READ_BYTES // of_input))
    weights = chunk_weights(n, rows)

    def in_chunks(values: np.ndarray) -> Array:
        values = values.astype(dtype, copy=False)
        filled = filled_up(values, weights.size)
        return jnp.asarray(filled.reshape(*weights.shape, *values.shape[1:]))

    inputs = Held(in_chunks(X)) if held else Read.of(X, dtype, weights.shape[1])
    return inputs, in_chunks(y), jnp.asarray(weights, dtype)
