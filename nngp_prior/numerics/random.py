"""Seeds derived by name, systematic draws, and scrambled Sobol points."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer, UInt32

_SOBOL_DIMENSIONS = 21_201  # limit of the direction numbers of Joe and Kuo (2008)
_BITS = 32
_LOCK = threading.Lock()


def generator(seed: int, *names: object) -> np.random.Generator:
    """Return a random generator for one named purpose.

    Args:
        seed: the user's seed.
        *names: purpose of the numbers; different names give independent streams. Bytes are used unchanged.

    Returns:
        the same stream for the same seed and names, on any machine.
    """
    return np.random.default_rng(_entropy(seed, names))


def bit_stream(seed: int, *names: object) -> np.random.Generator:
    """As :func:`generator`, with bits in half of the time and a different stream (SFC64 instead of PCG64).

    Args:
        seed: the user's seed.
        *names: purpose of the numbers.

    Returns:
        the same stream for the same seed and names, on any machine.
    """
    return np.random.Generator(np.random.SFC64(_entropy(seed, names)))


def systematic(
    weights: Float[np.ndarray, " n"], count: int, rng: np.random.Generator
) -> Integer[np.ndarray, " {count}"]:
    """Draw indices by weight, systematically: each as often as expected, up to rounding.

    Args:
        weights: weights that are not negative, one at least positive.
        count: number of draws.
        rng: random generator.

    Returns:
        indices in random order.
    """
    cumulative = np.cumsum(weights)
    grid = (np.arange(count) + rng.random()) * (cumulative[-1] / count)
    return rng.permutation(np.minimum(np.searchsorted(cumulative, grid), len(weights) - 1))


def _entropy(seed: int, names: tuple[object, ...]) -> UInt32[np.ndarray, " words"]:
    digest = hashlib.sha256(str(seed).encode())
    for name in names:
        digest.update(b"\0" + (name if isinstance(name, bytes) else str(name).encode()))
    return np.frombuffer(digest.digest(), dtype=np.uint32)


@functools.lru_cache(maxsize=8)
def _direction_numbers(dimensions: int, count: int) -> UInt32[np.ndarray, "count dimensions"]:
    """Return the first direction numbers of Sobol's sequence, read off SciPy's unscrambled points.

    SciPy lists its points in Gray-code order, so that the point whose Gray code is 2ʲ is the j-th direction number.

    SciPy reads its tables at the first call, and two concurrent first calls leave them empty without an error.

    Returns:
        the numbers, as binary fractions of 32 bits.

    Raises:
        RuntimeError: if that has happened, by other calls of SciPy.
    """
    from scipy.stats import qmc  # takes half a second, avoided in processes that draw no points

    with _LOCK:
        points = qmc.Sobol(dimensions, scramble=False, bits=_BITS).random(2**count)
    if np.any(points[1] != 0.5):  # the point after the origin, in every dimension
        raise RuntimeError("SciPy's Sobol points are wrong: its tables were not read. Start a new process.")
    index = np.arange(2**count)
    place_of_code = np.argsort(index ^ (index >> 1))
    return (points[place_of_code[2 ** np.arange(count)]] * 2.0**_BITS).astype(np.uint32)


def scrambled_sobol(
    dimensions: int, count: int, generators: Sequence[np.random.Generator]
) -> Float[np.ndarray, "dimensions replicates count"]:
    """Draw scrambled Sobol points: each uniform in the open cube, together more even than random ones.

    Matoušek's affine scrambling (J. Complexity 14, 1998): every direction number is multiplied by a random lower
    triangular matrix over GF(2), and all points are shifted by one random number (bitwise). A point then is uniform
    on a grid of 2⁻³²; a further uniform number inside its cell makes it continuous (clipping the grid's 0 instead would
    bias). SciPy's own scrambling is not used since it costs 25 µs per dimension, more than the particles do.

    Args:
        dimensions: number of coordinates; those beyond 21,201 are filled with random numbers.
        count: number of points.
        generators: random generator of the scrambling of each replicate.

    Returns:
        the points of each replicate as columns.
    """
    leading, replicates = min(dimensions, _SOBOL_DIMENSIONS), len(generators)
    doublings = max(count - 1, 0).bit_length()
    grid = np.empty((leading, replicates, count), dtype=np.uint32)
    columns = np.empty((doublings, leading, replicates), dtype=np.uint32)
    points = np.empty((dimensions, replicates, count))
    for r, rng in enumerate(generators):
        grid[:, r, 0] = rng.integers(0, 2**_BITS, leading, dtype=np.uint32)
        for j in range(doublings):  # columns of the scrambling matrices: a one on the diagonal, random bits below
            columns[j, :, r] = rng.integers(0, 1 << (_BITS - 1 - j), leading, dtype=np.uint32)
        points[:, r] = rng.random((dimensions, count))
    for j in range(doublings):
        directions = _direction_numbers(leading, doublings)
        columns[j] |= np.uint32(1 << (_BITS - 1 - j))
        bits = (directions[j] >> (_BITS - 1 - np.arange(j + 1, dtype=np.uint32))[:, None]) & np.uint32(1)
        scrambled = np.bitwise_xor.reduce(columns[: j + 1] * bits[:, :, None], axis=0)
        half = 2**j
        grid[..., half : 2 * half] = grid[..., : min(half, count - half)] ^ scrambled[..., None]
    points[:leading] += grid
    points[:leading] *= 2.0**-_BITS
    # Keep points inside the open interval despite rounding.
    return np.clip(points, 2.0**-60, 1 - 2.0**-53, out=points)
