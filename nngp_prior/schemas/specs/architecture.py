"""Architectures: each specification defines an infinite-width kernel and a finite network."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Annotated, Literal, ParamSpec, TypeVar

from pydantic import Field, StrictBool

from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.base import PLAIN, Specification
from nngp_prior.schemas.lists import StopsEarly
from nngp_prior.schemas.text import short

P = ParamSpec("P")
T = TypeVar("T")

# Homogeneous: φ(c x) = c φ(x) for c > 0.
PIECEWISE_LINEAR = ("relu", "leaky-relu", "identity")
ActivationName = Literal["relu", "leaky-relu", "erf", "gelu", "sin", "cos", "identity"]
Padding = Literal["same", "valid", "circular"]
Readout = Literal["flatten", "global-average-pool"]
Width = Annotated[int, Field(ge=1, le=1_000_000), PLAIN]
Window = Annotated[int, Field(ge=1, le=1000), PLAIN]  # pixels


class _Network(Specification):
    r"""Options of all architectures; networks have one output.

    Finite networks have weights N(0, σ_w²/fan-in) and biases N(0, σ_b²), in every layer with weights.

    Attributes:
        activation: activation function φ.
        negative_slope: slope of ``leaky-relu`` for x < 0.
        layer_norm: True to normalise over units (channels, at each pixel) before each activation.
        weight_std: σ_w.
        bias_std: σ_b.
    """

    activation: ActivationName = "relu"
    negative_slope: Annotated[float, Field(ge=0, le=1), PLAIN] = 0.01
    layer_norm: StrictBool = False
    weight_std: Annotated[float, Field(gt=0, le=1e100), PLAIN] = math.sqrt(2)
    bias_std: Annotated[float, Field(ge=0, le=1e100), PLAIN] = 0.1

    @property
    def piecewise_linear(self) -> bool:
        """True if f is affine in the parameters of each single layer, except at kinks."""
        return self.activation in PIECEWISE_LINEAR and not self.layer_norm


class FullyConnected(_Network):
    r"""A fully connected network.

    Its NNGP kernel, for inputs in d dimensions (Lee et al. 2018, eqs 4 and 5):

    .. math:: K^0 = σ_b^2 + σ_w^2\, x·x'/d, \qquad K^{l+1} = σ_b^2 + σ_w^2\, E[φ(u) φ(v)], \; (u, v) ~ N(0, K^l)

    Attributes:
        depth: number of hidden layers: 2 for 784-40-40-1, 0 for the perceptron.
        width: number of units in each hidden layer of a finite network; the kernel does not depend on it.
    """

    kind: Literal["fully-connected"] = "fully-connected"
    depth: Annotated[int, Field(ge=0, le=1000), PLAIN] = 2
    width: Width = 512


class ConvolutionLayer(Specification):
    """A convolution followed by the activation.

    Attributes:
        size: height and width of the filter.
        stride: stride in both directions.
        padding: ``same`` for zeros, ``circular`` for the opposite side of the image, or ``valid`` for no padding.
        channels: number of channels of a finite network. Default: ``channels`` of the whole network.
    """

    kind: Literal["convolution"] = "convolution"
    size: Window = 3
    stride: Window = 1
    padding: Padding = "same"
    channels: Width | None = None


class PoolingLayer(Specification):
    """Mean or sum over windows.

    Attributes:
        operation: ``average`` or ``sum``.
        size: height and width of a window.
        stride: stride in both directions. Default: ``size``.
    """

    kind: Literal["pooling"] = "pooling"
    operation: Literal["average", "sum"] = "average"
    size: Window = 2
    stride: Window | None = None


ConvolutionalLayer = Annotated[ConvolutionLayer | PoolingLayer, Field(discriminator="kind")]


class Convolutional(_Network):
    """A convolutional network: layers, a readout, and a dense layer with one output.

    The kernel at infinitely many channels is that of Novak et al. 2019 and Garriga-Alonso et al. 2019. With
    ``flatten``, weights of different pixels are independent, so that covariances between different pixels are not
    needed; with ``global-average-pool`` (or pooling layers) they are, at the square of the cost.

    Attributes:
        layers: layers from the image on.
        readout: operation between the last layer and the output.
        channels: number of channels of each layer of a finite network.
        input_channels: expected number of channels of the inputs, their last axis. Required if the shape of the inputs
            looks like channels first.
    """

    kind: Literal["convolutional"] = "convolutional"
    layers: Annotated[tuple[ConvolutionalLayer, ...], Field(min_length=1, max_length=1000), StopsEarly()] = (
        ConvolutionLayer(),
    ) * 3
    readout: Readout = "flatten"
    channels: Width = 64
    input_channels: Width | None = None

    @classmethod
    def myrtle(cls, depth: Literal[5, 7, 10], **fields: object) -> Convolutional:
        """The Myrtle networks of Shankar et al. 2020 (for 32 × 32 images).

        Args:
            depth: 5, 7 or 10: 3 × 3 convolutions in three groups, with 2 × 2 average pooling after the first two.
            **fields: fields of the class.

        Returns:
            the specification, with average pooling before the output.

        Raises:
            ValueError: if the depth is another one.
        """
        groups = {5: (2, 1, 1), 7: (2, 2, 2), 10: (3, 3, 3)}.get(depth)
        if groups is None:
            raise ValueError(f"depth: got {depth!r}. Choose 5, 7 or 10.")
        layers: list[ConvolutionLayer | PoolingLayer] = []
        for group, count in enumerate(groups):
            layers += [PoolingLayer()] * (group > 0) + [ConvolutionLayer()] * count
        return cls(**{"layers": tuple(layers), "readout": "global-average-pool", **fields})


class Residual(_Network):
    """A wide residual network without batch normalisation, with activations before the weights (He et al. 2016, v2).

    A first convolution, then groups of blocks. A block adds φ-conv-φ-conv of its input to the input; in the first block
    of a group the input passes through a separate convolution. From the second group on that block halves the image.

    Attributes:
        groups: number of groups.
        blocks: number of blocks in each group; 3 groups of b blocks have 6 b + 2 layers with weights.
        size: height and width of all filters, including those of the shortcuts.
        readout: operation between the last block and the output.
        channels: number of channels of each layer of a finite network.
        input_channels: as for :class:`Convolutional`.
    """

    kind: Literal["residual"] = "residual"
    groups: Annotated[int, Field(ge=1, le=10), PLAIN] = 3
    blocks: Annotated[int, Field(ge=1, le=200), PLAIN] = 1
    size: Window = 3
    readout: Readout = "global-average-pool"
    channels: Width = 64
    input_channels: Width | None = None


Architecture = Annotated[FullyConnected | Convolutional | Residual, Field(discriminator="kind")]
ARCHITECTURES = (FullyConnected, Convolutional, Residual)


def architecture_first(kinds: tuple[type, ...]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator that refuses calls without an architecture as first argument.

    Without it, Python would say of ``log_prior(X, y)`` that the last argument is missing.

    Args:
        kinds: types of architectures.

    Returns:
        decorator of functions and methods with an argument ``architecture``.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        parameters = list(inspect.signature(function).parameters.values())
        place = [parameter.name for parameter in parameters].index("architecture")
        positional = [each for each in parameters[place + 1 :] if each.kind == each.POSITIONAL_OR_KEYWORD]
        others = [each.name for each in positional if each.default is each.empty]
        name = function.__qualname__ if parameters[0].name == "cls" else function.__name__
        call = f"{name}({', '.join(['FullyConnected(depth=2)', *others])})"

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> T:
            if len(args) > place and not isinstance(args[place], kinds):
                shape = getattr(args[place], "shape", None)
                array = f"is missing; the first argument is an array of shape {shape}"
                problem = f"got {short(args[place])}" if shape is None else array
                raise InvalidInput("architecture", problem, f"Call {call}, or with another architecture.")
            return function(*args, **kwargs)

        return checked

    return decorate
