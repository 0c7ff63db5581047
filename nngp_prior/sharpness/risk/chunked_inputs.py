"""Inputs of a risk: copied where they are few, and else left where the user has them and read chunk by chunk."""

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

_HELD_BYTES = 2**26  # of inputs that are copied
_DEVICE_BYTES = 2**32  # likewise, to an accelerator, which would wait for those that are read
_READ_BYTES = 2**24  # of a chunk that is read
_PLACES = 2**14  # that are read at a time; a callback that is given 100 KiB can wait for them for ever


@functools.partial(jax.tree_util.register_dataclass, data_fields=("stack",), meta_fields=())
@dataclass(frozen=True, eq=False)
class Held:
    """Inputs in JAX's memory.

    Attributes:
        stack: (chunks, rows, ...)
    """

    stack: Any  # an array, or what JAX puts in its place

    def chunk(self, i: Any) -> Float[Array, "rows ..."]:
        """A chunk, to be traced by JAX.

        Args:
            i: which one.

        Returns:
            its inputs.
        """
        return self.stack[i]

    def take(self, rows: Any) -> Float[Array, ...]:
        """Some inputs.

        Args:
            rows: places of examples, an array.

        Returns:
            an input in the place of each.
        """
        return self.stack.reshape(-1, *self.stack.shape[2:])[rows]


class _Source:
    """The user's array, alive as long as a risk is that reads from it."""

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
    """Inputs in NumPy's memory, or in a file that is mapped into it, whose chunks are read when it is their turn.

    Compiled functions know the array by a number that is an argument of theirs: they serve other arrays as well, and
    keep none alive.

    Attributes:
        number: of the array, ().
        shape: of an input.
        stored: the type of the numbers there.
        dtype: that they are wanted in.
        rows: of a chunk; the last one is filled up with copies of an input.
        source: the array; compiled functions are not given it.
    """

    number: Any  # an array, or what JAX puts in its place
    shape: tuple[int, ...]
    stored: str
    dtype: str
    rows: int
    source: _Source | None = None

    @classmethod
    def of(cls, X: Real[np.ndarray, "n ..."], dtype: str, rows: int) -> Read:
        """From an array that is not to be changed from now on.

        Args:
            X: inputs.
            dtype: of the numbers wanted.
            rows: of a chunk.

        Returns:
            the inputs.
        """
        number, source = next(_NUMBERS), _Source(X)
        _SOURCES[number] = source
        return cls(jnp.asarray(number, np.uint32), X.shape[1:], X.dtype.name, dtype, rows, source)

    def __reduce__(self) -> tuple[Callable[..., Read], tuple[Any, ...]]:
        """Numbers hold in one process only."""
        assert self.source is not None
        return Read.of, (self.source.X, self.dtype, self.rows)

    def chunk(self, i: Any) -> Float[Array, "rows ..."]:
        """A chunk, as :meth:`Held.chunk`."""
        rows = self.rows

        def read(number: Any, i: Any) -> np.ndarray:
            X = _array(number)
            return _filled_up(X[int(i) * rows : (int(i) + 1) * rows], rows, X)

        return self._read(read, (rows,), i)

    def take(self, rows: Any) -> Float[Array, ...]:
        """Some inputs, as :meth:`Held.take`."""
        rows = jnp.asarray(rows)
        places = rows.ravel()
        parts = [places[i : i + _PLACES] for i in range(0, rows.size, _PLACES)]
        found = [self._read(lambda number, of: _array(number)[np.asarray(of)], part.shape, part) for part in parts]
        return jnp.concatenate(found).reshape(*rows.shape, *self.shape)

    def _read(self, read: Callable[..., np.ndarray], leading: tuple[int, ...], where: Any) -> Array:
        shape, stored, dtype = (*leading, *self.shape), self.stored, self.dtype
        # Threads of XLA's do not know that 64-bit types are allowed in this one: JAX would round them.
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
    """Examples in as few chunks of equal size as there can be, by their weights in a mean.

    Args:
        n: examples.
        most: of a chunk.

    Returns:
        1/n for examples and 0 for what fills up the last chunk.
    """
    chunks = -(-n // most)
    rows = -(-n // chunks)
    return np.where(np.arange(chunks * rows) < n, 1 / n, 0.0).reshape(chunks, rows)


def laid_out(
    X: Real[np.ndarray, "n ..."], y: Real[np.ndarray, " n"], dtype: str, rows: int
) -> tuple[Held | Read, Float[Array, "chunks rows"], Float[Array, "chunks rows"]]:
    """Examples in chunks of equal size.

    Args:
        X: inputs, of any real type; where they are read, the array is not to be changed from now on.
        y: labels.
        dtype: of all numbers.
        rows: of a chunk at most.

    Returns:
        inputs; labels; and weights, 1/n for examples and 0 for what fills up the last chunk.
    """
    n, of_input = len(X), X[0].size * np.dtype(dtype).itemsize
    held = n <= rows or n * of_input <= (_HELD_BYTES if jax.default_backend() == "cpu" else _DEVICE_BYTES)
    if not held:
        rows = min(rows, max(1, _READ_BYTES // of_input))
    weights = chunk_weights(n, rows)

    def in_chunks(values: np.ndarray) -> Array:
        values = values.astype(dtype, copy=False)
        filled = _filled_up(values, weights.size, values)
        return jnp.asarray(filled.reshape(*weights.shape, *values.shape[1:]))

    inputs = Held(in_chunks(X)) if held else Read.of(X, dtype, weights.shape[1])
    return inputs, in_chunks(y), jnp.asarray(weights, dtype)


def _filled_up(values: np.ndarray, rows: int, X: np.ndarray) -> np.ndarray:
    """So many rows, of which those that were missing are copies of X's first; a last chunk may have had none."""
    missing = rows - len(values)
    return np.concatenate([values, np.repeat(X[:1], missing, axis=0)]) if missing else values
