r"""Outputs of random finite networks.

Fully connected networks without layer norm are drawn and run with NumPy, groups of them at a time,

.. math:: h^1 = σ_w W^1 x / \sqrt d + σ_b b^1, \qquad h^{l+1} = σ_w W^{l+1} φ(h^l) / \sqrt{width} + σ_b b^{l+1}

in float32; if an output of a network is so small compared with its largest one that rounding might decide the sign,
that network is run again in float64. All others are run by JAX in float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import erf

from nngp_prior.architectures import FromNetwork
from nngp_prior.errors import InvalidInput
from nngp_prior.numerics.random import bit_stream
from nngp_prior.schemas.specs.architecture import Architecture, FullyConnected
from nngp_prior.schemas.specs.kernel import MonteCarlo

_BLOCK = 4096  # maximum number of networks per block, each of which has its own random stream
_OUTPUTS = 2**23  # outputs per block, 32 MiB
_WORK = 2**33  # multiplications per block, a fraction of a second: the interval of progress events
_GROUP = 2**18  # numbers in the arrays of networks run together, 1 MiB: they stay in the cache
_DOUBTFUL = 2.0**-16  # fraction of a network's largest output; float32 errs by a hundredth of it


class FullyConnectedNetworks:
    """Draws of fully connected networks.

    Args:
        architecture: specification without layer norm.
        X: (n, d) inputs.
        seed: random seed; block b of networks has its own stream.
    """

    parallel = True  # faster in several threads

    def __init__(self, architecture: FullyConnected, X: Float[np.ndarray, "n d"], seed: int) -> None:
        self._architecture, self._seed = architecture, seed
        width, depth = architecture.width, architecture.depth
        self._fans = [X.shape[1], *[width] * depth]
        self._units = [*[width] * depth, 1]
        self._weights = [fan * units for fan, units in zip(self._fans, self._units, strict=True)]
        self._biases = [units if architecture.bias_std else 0 for units in self._units]
        n, parameters = len(X), sum(self._weights) + sum(self._biases)
        block = max(1, min(_BLOCK, _OUTPUTS // n, _WORK // (n * parameters)))
        self._group = max(1, min(block, _GROUP // max(max(self._units) * n, parameters)))
        self._groups = block // self._group
        self._X = {dtype: np.ascontiguousarray(X.T, dtype=dtype) for dtype in (np.float32, np.float64)}
        self.block = self._group * self._groups
        self.stream = "numpy"

    def __call__(self, block: int) -> Float[np.ndarray, "block n"]:
        """Return the outputs of a block of networks, independent of calls for other blocks.

        Args:
            block: index of the block.

        Returns:
            one network per row.
        """
        rng = bit_stream(self._seed, "networks", block)
        return np.concatenate([self._draw(rng) for _ in range(self._groups)])

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return the outputs of the next group of networks."""
        count = self._group
        Z = normals(rng, count * (sum(self._weights) + sum(self._biases)))
        parts = np.split(Z, count * np.cumsum([*self._weights, *self._biases])[:-1])
        layers = len(self._units)
        weights, biases = [], []
        for part, bias, fan, units in zip(parts[:layers], parts[layers:], self._fans, self._units, strict=True):
            part *= np.float32(self._architecture.weight_std / math.sqrt(fan))
            weights.append(part.reshape(count, units, fan))
            bias *= np.float32(self._architecture.bias_std)
            biases.append(bias.reshape(count, -1, 1))
        f = self._run(weights, biases)
        sizes = np.abs(f)
        doubtful = np.flatnonzero(sizes.min(axis=1) <= _DOUBTFUL * sizes.max(axis=1))
        if len(doubtful):
            f = f.astype(np.float64)
            f[doubtful] = self._run(*([A[doubtful].astype(np.float64) for A in side] for side in (weights, biases)))
        return f

    def _run(self, weights: list[np.ndarray], biases: list[np.ndarray]) -> np.ndarray:
        """Return the outputs of networks with these parameters, in their precision."""
        first = weights[0]
        count, units, fan = first.shape
        X = self._X[first.dtype.type]
        H = (first.reshape(-1, fan) @ X).reshape(count, units, -1)  # one product for all networks
        if biases[0].size:
            H += biases[0]
        for W, b in zip(weights[1:], biases[1:], strict=True):
            H = W @ activated(self._architecture.activation, H, self._architecture.negative_slope)
            if b.size:
                H += b
        return H[:, 0]


class JaxNetworks:
    """Draws of any networks, by JAX.

    Args:
        architecture: a specification, or a user's network.
        X: (n, …) inputs in the shape that it takes.
        seed: random seed; network r has the key ``fold_in(key(seed), r)``.
        most: maximum number of networks.

    Raises:
        InvalidInput: if the network has several outputs, or none that is a function of parameters and inputs alone.
    """

    parallel = False  # JAX has its own threads

    def __init__(
        self, architecture: Architecture | FromNetwork, X: Float[np.ndarray, "n ..."], seed: int, most: int
    ) -> None:
        import jax

        from nngp_prior.kernels.finite import Drawer, features_of

        with jax.enable_x64(True):
            self._drawer = Drawer(features_of(architecture, MonteCarlo(features="outputs")), X, seed, min(most, _BLOCK))
        if self._drawer.units != 1:
            problem = f"has {self._drawer.units} outputs"
            raise InvalidInput("architecture", problem, "Labels are the sign of one output: give it one.")
        self.block = self._drawer.group  # networks are identified by number, so that block sizes may differ
        self.stream = "jax"

    def __call__(self, block: int) -> Float[np.ndarray, "block n"]:
        """Return the outputs of a block of networks.

        Args:
            block: index of the block.

        Returns:
            one network per row.
        """
        import jax

        with jax.enable_x64(True):
            return self._drawer(range(block * self.block, (block + 1) * self.block))[:, :, 0]


def activated(name: str, H: Any, negative_slope: float) -> Any:
    """Return φ(H), in the precision of H, which may be overwritten.

    Args:
        name: name of the activation.
        H: an array.
        negative_slope: slope of ``leaky-relu`` for negative arguments.

    Returns:
        an array.
    """
    match name:
        case "relu":
            return np.maximum(H, 0, out=H)
        case "leaky-relu":
            return np.maximum(H, H.dtype.type(negative_slope) * H, out=H)
        case "erf":
            return erf(H, out=H)
        case "gelu":
            return H * (1 + erf(H * H.dtype.type(math.sqrt(0.5)))) * H.dtype.type(0.5)
        case "sin":
            return np.sin(H, out=H)
        case "cos":
            return np.cos(H, out=H)
        case _:
            return H


def normals(rng: np.random.Generator, count: int) -> Float[np.ndarray, " count"]:
    r"""Draw standard normal numbers in float32, by Box and Muller (1958), in a third of the time of NumPy's.

    .. math:: \sqrt{-2 \ln u} \, (\cos 2πv, \sin 2πv)

    u has 31 bits, so that none exceeds 6.7, which one in 10¹¹ should.

    Args:
        rng: source of random bits.
        count: number of draws.

    Returns:
        the numbers.
    """
    half = -(-count // 2)
    bits = rng.integers(0, 2**64, half, dtype=np.uint64).view(np.uint32).reshape(2, half)
    radius = (bits[0] >> np.uint32(1)).view(np.int32).astype(np.float32)
    radius += np.float32(0.5)
    radius *= np.float32(2.0**-31)
    np.log(radius, out=radius)
    radius *= np.float32(-2)
    np.sqrt(radius, out=radius)
    angle = bits[1].view(np.int32).astype(np.float32)
    angle *= np.float32(math.pi * 2.0**-31)
    Z = np.empty((2, half), dtype=np.float32)
    np.cos(angle, out=Z[0])
    np.sin(angle, out=Z[1])
    Z *= radius
    return Z.reshape(-1)[:count]
