"""Shapes of a finite network's weights and biases, and cost of a forward pass; without JAX."""

from __future__ import annotations

import math
from typing import NamedTuple

from nngp_prior.architectures.layers import (
    Convolution,
    Dense,
    Flatten,
    GlobalAveragePool,
    Layers,
    Pooling,
    Sum,
    layers_of,
)
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.specs.architecture import Architecture


class Weights(NamedTuple):
    """The arrays of one layer.

    Attributes:
        shape: shape of the weights: (inputs, units), or (size, size, channels in, channels out).
        biases: shape of the biases; None if there are none.
        multiplications: number of multiplications per input.
    """

    shape: tuple[int, ...]
    biases: tuple[int, ...] | None
    multiplications: int

    @property
    def parameters(self) -> int:
        """Number of parameters in both arrays."""
        return math.prod(self.shape) + (0 if self.biases is None else math.prod(self.biases))


def parameter_shapes(architecture: Architecture, input_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all parameter arrays, in the order of the flat vector.

    Args:
        architecture: specification of the network.
        input_shape: shape of one input.

    Returns:
        shapes by names such as ``dense 1/weight`` and ``dense 1/bias``, numbered from the input on, as in
        ``nngp_prior.sharpness.finite_network``.
    """
    shapes = {}
    for number, weights in enumerate(network_weights(architecture, input_shape), start=1):
        layer = f"{'dense' if len(weights.shape) == 2 else 'convolution'} {number}"
        shapes[f"{layer}/weight"] = weights.shape
        if weights.biases is not None:
            shapes[f"{layer}/bias"] = weights.biases
    return shapes


def network_weights(architecture: Architecture, input_shape: tuple[int, ...]) -> list[Weights]:
    """Return the arrays of all layers of a network.

    Args:
        architecture: specification of the network.
        input_shape: shape of one input.

    Returns:
        one element per layer with weights, from the input on; main branches before shortcuts.
    """
    return weights_of(layers_of(architecture), input_shape)[0]


def weights_of(layers: Layers, shape: tuple[int, ...]) -> tuple[list[Weights], tuple[int, ...]]:
    """Return the arrays of some layers.

    Args:
        layers: layers, from the input on.
        shape: shape of one input.

    Returns:
        those of each layer with weights, main branches before shortcuts, and the output shape.

    Raises:
        InvalidInput: if a window is larger than the remaining image.
    """
    found: list[Weights] = []
    for layer in layers:
        match layer:
            case Dense(units=units, bias_std=bias_std):
                weights = (shape[-1], units)
                found.append(Weights(weights, (1, units) if bias_std else None, math.prod(weights)))
                shape = (*shape[:-1], units)
            case Convolution(channels=channels, size=size, stride=stride, padding=padding, bias_std=bias_std):
                weights = (size, size, shape[-1], channels)
                height, width = (_windows(edge, size, stride, padding != "valid") for edge in shape[:2])
                biases = (1, 1, 1, channels) if bias_std else None
                found.append(Weights(weights, biases, height * width * math.prod(weights)))
                shape = (height, width, channels)
            case Pooling(size=size, stride=stride):
                height, width = (_windows(edge, size, stride, False) for edge in shape[:2])
                shape = (height, width, shape[-1])
            case Flatten():
                shape = (math.prod(shape),)
            case GlobalAveragePool():
                shape = (shape[-1],)
            case Sum(main=main, shortcut=shortcut):
                (inner, after), (beside, _) = weights_of(main, shape), weights_of(shortcut, shape)
                found += inner + beside
                shape = after
            case _:
                pass
    return found, shape


def _windows(edge: int, size: int, stride: int, padded: bool) -> int:
    if not padded and size > edge:
        problem = f"windows of {size} × {size} where {edge} pixels are left"
        raise InvalidInput("X", problem, "Use larger images or fewer layers.")
    return -(-edge // stride) if padded else (edge - size) // stride + 1
