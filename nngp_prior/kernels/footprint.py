"""Number of covariances per pair of inputs in each layer while a kernel is computed; without JAX."""

from __future__ import annotations

import math
from collections.abc import Iterator

from nngp_prior.architectures.layers import (
    Activation,
    Convolution,
    Dense,
    GlobalAveragePool,
    Layer,
    LayerNorm,
    Layers,
    Pooling,
    Sum,
)
from nngp_prior.architectures.weights import weights_of

BUFFERS = 4  # arrays as large as the largest state of a block of pairs
_TILE = 2**22  # covariances in a tile
_BLOCK = 2**19  # covariances in a block of rows, which are processed together
_SMALLEST, _LARGEST = 8, 1024  # rows of a tile
_CACHE = 2**23  # bytes of a block of covariances, beyond which they are read from memory in each layer
_FROM_MEMORY = 0.4  # time relative to that from the cache, per byte of a covariance
_STEPS = {Convolution: 2, Pooling: 4}  # parts of a layer compiled separately; default 1
_MOST = 2**26  # covariances in one row of the smallest tile; beyond it, tiles are smaller


def tile_of(largest: int) -> int:
    """Return the number of rows, and of columns, of a tile.

    Args:
        largest: covariances per pair of inputs in the largest layer.

    Returns:
        a power of two.
    """
    wanted = 2 ** max(int(math.log2(_TILE / largest) // 2), 0) if largest < _TILE else 1
    tile = min(max(wanted, _SMALLEST), _LARGEST)
    while tile > 1 and tile * largest > max(_MOST, _BLOCK):
        tile //= 2
    return tile


def height_of(largest: int, tile: int) -> int:
    """Return the number of rows of a tile that are processed together, in networks on images.

    Args:
        largest: as for :func:`tile_of`.
        tile: rows of the tile.

    Returns:
        number of rows, at least one.
    """
    return max(1, min(tile, _BLOCK // (largest * tile)))


def pools(layer: Layer) -> bool:
    """True if the layer needs covariances of different pixels."""
    if isinstance(layer, Sum):
        return any(map(pools, layer.main + layer.shortcut))
    return isinstance(layer, Pooling | GlobalAveragePool)


def states(layers: Layers, shape: tuple[int, ...]) -> list[tuple[Layer | None, int]]:
    """Return each layer with the number of covariances per pair of inputs that enter it.

    Args:
        layers: layers of a network.
        shape: shape of one input.

    Returns:
        layers in order, branches in sequence; the last entry is the output.

    Raises:
        InvalidInput: if a window is larger than the remaining image.
    """
    if isinstance(layers[0], Dense):
        return [*((layer, 1) for layer in layers), (None, 1)]
    pooling = [i for i, layer in enumerate(layers) if pools(layer)]
    power = 2 if pooling else 1  # ignores that behind the last pooling a flattening readout needs equal pixels only

    def walk(layers: Layers, shape: tuple[int, ...]) -> Iterator[tuple[Layer | None, int]]:
        for layer in layers:
            size = math.prod(shape[:-1]) ** power
            if isinstance(layer, Sum):
                yield from walk(layer.main, shape)
                yield from walk(layer.shortcut, shape)
            else:
                yield layer, size
            shape = weights_of((layer,), shape)[1]
        yield None, math.prod(shape[:-1]) ** power

    return list(walk(layers, (*shape, 1)[:3]))


def working_bytes(layers: Layers, shape: tuple[int, ...], n: int, threads: int, itemsize: int = 8) -> int:
    """Return the working memory for the kernel of n inputs, without inputs and the matrix.

    Args:
        layers: layers of the network.
        shape: shape of one input.
        n: number of inputs.
        threads: number of tiles computed in parallel.
        itemsize: bytes per covariance.

    Returns:
        bytes at peak.
    """
    found = states(layers, shape)
    largest = max(size for _, size in found)
    tile = tile_of(largest)
    vectors = isinstance(layers[0], Dense)
    side = min(n, tile)
    height = side if vectors else min(height_of(largest, tile), n)
    tiles = math.ceil(n / tile) * (math.ceil(n / tile) + 1) // 2
    block = BUFFERS * max(height * side, 0 if vectors else side) * largest
    # Terms of single inputs: kept for the rows and columns of the threads' tiles, and copied for each block.
    pixels = math.prod(shape[:2]) if not vectors else 1
    own = sum(2 * pixels for layer, _ in found if isinstance(layer, Activation | LayerNorm))
    copies = min(2 * threads + 1, math.ceil(n / tile)) + 2 * min(threads, tiles)
    features = math.prod(shape)
    return itemsize * (min(threads, tiles) * (block + 4 * side * side) + side * copies * (own + features))


def seconds_of_pair(layers: Layers, shape: tuple[int, ...], get: str = "nngp", itemsize: int = 8) -> float:
    """Return the approximate seconds per entry on one core (AVX-512), without compilation.

    Args:
        layers: layers of the network.
        shape: shape of one input.
        get: which matrix, as for :func:`nngp_prior.kernel`.
        itemsize: bytes per covariance.

    Returns:
        seconds.
    """
    found = states(layers, shape)
    largest = max(size for _, size in found)
    tile = tile_of(largest)
    height = tile if isinstance(layers[0], Dense) else height_of(largest, tile)
    work = sum(size * _nanoseconds(layer) for layer, size in found) + 0.1 * math.prod(shape)
    work *= _FROM_MEMORY * itemsize if largest * height * tile * itemsize > _CACHE else 1.0
    return 1e-9 * _arrays(get) * work


def seconds_of_compilation(layers: Layers, shape: tuple[int, ...], get: str = "nngp") -> float:
    """Return the approximate seconds to compile all layers; equal ones are compiled once."""
    distinct = {(layer, size) for layer, size in states(layers, shape) if not isinstance(layer, Dense)}
    steps = sum(
        2 if isinstance(layer, Convolution) else 4 if isinstance(layer, Pooling) else 1 for layer, _ in distinct
    )
    return 0.3 + 0.15 * (0.7 + 0.3 * _arrays(get)) * steps


def _arrays(get: str) -> int:
    """Number of arrays in a state: K, and Θ for the NTK, or K's derivative."""
    return 1 if get == "nngp" else 2


def _nanoseconds(layer: Layer | None) -> float:
    match layer:
        case Activation():
            return 3.5
        case Convolution(size=size):
            return 2.0 + 0.5 * size
        case Pooling(size=size):
            return 1.5 + size
        case None:
            return 0.0
        case _:
            return 0.5
