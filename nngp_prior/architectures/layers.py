"""Layers of an architecture, from the input to the outputs, shared by its kernel and its finite network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nngp_prior.schemas.specs.architecture import (
    ActivationName,
    Architecture,
    Convolutional,
    ConvolutionLayer,
    FullyConnected,
    Padding,
    PoolingLayer,
    Residual,
)


@dataclass(frozen=True)
class Dense:
    """Weights N(0, σ_w²/fan-in) on a vector, and biases N(0, σ_b²)."""

    units: int
    weight_std: float
    bias_std: float


@dataclass(frozen=True)
class Convolution:
    """Weights N(0, σ_w²/fan-in) on size × size windows of an image (height, width, channels), and biases N(0, σ_b²)."""

    channels: int
    size: int
    stride: int
    padding: Padding
    weight_std: float
    bias_std: float


@dataclass(frozen=True)
class Activation:
    """Nonlinearity φ of each entry."""

    name: ActivationName
    negative_slope: float


@dataclass(frozen=True)
class LayerNorm:
    """Mean 0 and variance 1 over the last axis: the units, or the channels at each pixel."""


@dataclass(frozen=True)
class Pooling:
    """The mean or sum over size × size windows without padding."""

    operation: Literal["average", "sum"]
    size: int
    stride: int


@dataclass(frozen=True)
class Flatten:
    """Reshape an image to a vector."""


@dataclass(frozen=True)
class GlobalAveragePool:
    """The mean over all pixels."""


@dataclass(frozen=True)
class Sum:
    """Sum of two branches applied to the same input; a branch without layers is the identity."""

    main: Layers
    shortcut: Layers


Layer = Dense | Convolution | Activation | LayerNorm | Pooling | Flatten | GlobalAveragePool | Sum
Layers = tuple[Layer, ...]


def layers_of(architecture: Architecture, outputs: int = 1) -> Layers:
    """Return the layers of a specification.

    Args:
        architecture: specification of the network.
        outputs: number of outputs, each with the same prior and independent of the others at infinite width.

    Returns:
        its layers; images have the axes height, width, channels.
    """
    match architecture:
        case FullyConnected(depth=depth, width=width):
            hidden = (_dense(architecture, width), *_nonlinearity(architecture)) * depth
            return (*hidden, _dense(architecture, outputs))
        case Convolutional(layers=layers):
            inner = tuple(part for layer in layers for part in _convolutional(architecture, layer))
            return (*inner, *_readout(architecture, outputs))
        case Residual():
            return (*_residual(architecture), *_nonlinearity(architecture), *_readout(architecture, outputs))


def _dense(network: Architecture, units: int) -> Dense:
    return Dense(units, network.weight_std, network.bias_std)


def _nonlinearity(network: Architecture) -> Layers:
    activation = Activation(network.activation, network.negative_slope)
    return (LayerNorm(), activation) if network.layer_norm else (activation,)


def _readout(network: Convolutional | Residual, outputs: int) -> Layers:
    return (Flatten() if network.readout == "flatten" else GlobalAveragePool(), _dense(network, outputs))


def _convolutional(network: Convolutional, layer: ConvolutionLayer | PoolingLayer) -> Layers:
    match layer:
        case ConvolutionLayer(channels=channels, size=size, stride=stride, padding=padding):
            convolution = Convolution(
                channels or network.channels, size, stride, padding, network.weight_std, network.bias_std
            )
            return (convolution, *_nonlinearity(network))
        case PoolingLayer(operation=operation, size=size, stride=stride):
            return (Pooling(operation, size, stride or size),)


def _residual(network: Residual) -> Layers:
    def convolution(stride: int = 1) -> Convolution:
        return Convolution(network.channels, network.size, stride, "same", network.weight_std, network.bias_std)

    layers: list[Layer] = [convolution()]
    for group in range(network.groups):
        for block in range(network.blocks):
            stride = 2 if group > 0 and block == 0 else 1
            main = (*_nonlinearity(network), convolution(stride), *_nonlinearity(network), convolution())
            layers.append(Sum(main, (convolution(stride),) if block == 0 else ()))
    return tuple(layers)
