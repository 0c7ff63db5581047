"""Time of finite networks on two cores of 2020s hardware; without JAX.

The rates are fits to measurements on cores that were not idle, with an intended accuracy of a factor of two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nngp_prior.architectures.weights import Weights

# Floating-point operations per second.
_DENSE = {"float32": 2e11, "float64": 1e11}
_CONVOLUTION = {"float32": 1e11, "float64": 5e10}
_ACTIVATION = {"float32": 1e-9, "float64": 3e-9}  # seconds per output
_NORMAL = 2e-8  # seconds per random number


def forward_seconds(weights: Sequence[Weights], n: int, dtype: str = "float64") -> float:
    """Estimate the time of a forward pass.

    Args:
        weights: layers of the network.
        n: number of inputs.
        dtype: ``float64`` or ``float32``.

    Returns:
        seconds.
    """
    seconds = 0.0
    for layer in weights:
        rate = (_DENSE if len(layer.shape) == 2 else _CONVOLUTION)[dtype]
        outputs = layer.multiplications // math.prod(layer.shape[:-1])
        seconds += 2 * layer.multiplications / rate + outputs * _ACTIVATION[dtype]
    return n * seconds


def drawing_seconds(weights: Sequence[Weights]) -> float:
    """Estimate the time to draw the parameters of one network in float64.

    Args:
        weights: layers of the network.

    Returns:
        seconds.
    """
    return _NORMAL * sum(layer.parameters for layer in weights)
