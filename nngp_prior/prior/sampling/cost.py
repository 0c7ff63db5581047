"""Memory and time of draws from a prior."""

from __future__ import annotations

import functools
import math

from nngp_prior.architectures.cost import drawing_seconds, forward_seconds
from nngp_prior.architectures.weights import network_weights
from nngp_prior.numerics.threads import cores
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.specs.architecture import PIECEWISE_LINEAR, Architecture, FullyConnected

_FIXED = 2**28  # the process, JAX and its compiled code
_GROUP, _OUTPUTS, _BLOCK, _WORK = 2**18, 2**23, 4096, 2**33  # as in networks.py
_OF_JAX = 2**29  # networks drawn together by JAX, and the largest array of a forward pass


def sampling_cost(architecture: Architecture, shape: tuple[int, ...], draws: int, source: str = "networks") -> Cost:
    """Estimate the memory and time of :func:`nngp_prior.sample_functions`, without loading JAX.

    Args:
        architecture: specification of the networks.
        shape: shape of the inputs, (n, …).
        draws: number of draws.
        source: ``networks`` or ``gp``.

    Returns:
        bytes at peak, if as many of the drawn functions as possible are distinct; seconds, with an intended accuracy of
        a factor of two on two otherwise idle cores of 2020s hardware.
    """
    n, least = shape[0], 1
    if source == "gp":
        memory, setting_up, each = _of_gp(n)
    elif isinstance(architecture, FullyConnected) and not architecture.layer_norm:
        memory, least, each = _of_fully_connected(architecture, n, math.prod(shape[1:]))
        setting_up = 0.0
    else:
        memory, setting_up, each = _of_jax(architecture, n, shape[1:])  # pyright: ignore[reportArgumentType] hashable
    functions = min(draws, 2 ** min(n, 64))
    row = -(-n // 8)
    counting = 1e-6 + 5e-9 * n
    # Two copies of the rows while they are sorted and the table itself; counts, hashes and their order.
    return Cost(_FIXED + memory + functions * (3 * row + 56), setting_up + max(draws, least) * (each + counting))


def _of_gp(n: int) -> tuple[int, float, float]:
    """Return bytes, setup seconds, and seconds per draw: z ~ N(0, I), f = L z."""
    return (
        32 * n * n + cores() * 32 * 2**22,
        2 + 1e-7 * n * n + n**3 / 3 / 1.5e11,
        (2 * n * n / 3e10 + 2e-8 * n) / cores(),
    )


def _of_fully_connected(architecture: FullyConnected, n: int, inputs: int) -> tuple[int, int, float]:
    """Return bytes, networks per block, and seconds per network: products, normal numbers, activations."""
    width, depth = architecture.width, architecture.depth
    fans, units = [inputs, *[width] * depth], [*[width] * depth, 1]
    weights = sum(fan * count for fan, count in zip(fans, units, strict=True))
    parameters = weights + sum(units)
    largest = max(_GROUP, max(units) * n, parameters)
    memory = cores() * (24 * largest + 16 * max(min(_OUTPUTS, 4096 * n), n)) + 12 * n * inputs
    activation = 3e-10 if architecture.activation in PIECEWISE_LINEAR else 1e-8
    each = 5e-6 + 2 * n * weights / 1e11 + 3e-9 * parameters + activation * n * width * depth
    return memory, max(1, min(_BLOCK, _OUTPUTS // n, _WORK // (n * parameters))), each / cores()


@functools.lru_cache(maxsize=8)  # may construct thousands of layers, repeated for each number of draws
def _of_jax(architecture: Architecture, n: int, shape: tuple[int, ...]) -> tuple[int, float, float]:
    """As :func:`_of_gp`, for one network after another in float64."""
    weights = network_weights(architecture, shape)
    parameters = sum(each.parameters for each in weights)
    memory = _OF_JAX + 32 * parameters + 16 * n * math.prod(shape)
    return memory, 5.0, 1e-5 + forward_seconds(weights, n) + drawing_seconds(weights)
