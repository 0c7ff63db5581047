"""Networks of neural-tangents: the finite ones, and a reference for the kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from nngp_prior.architectures._neural_tangents import stax
from nngp_prior.architectures.convolution import convolve
from nngp_prior.architectures.layers import (
    Activation,
    Convolution,
    Dense,
    Flatten,
    GlobalAveragePool,
    Layer,
    LayerNorm,
    Layers,
    Pooling,
    Sum,
    layers_of,
)
from nngp_prior.architectures.weights import weights_of
from nngp_prior.schemas.architecture import Architecture


class Network(NamedTuple):
    """A network in the shape of a ``stax`` triple.

    Attributes:
        init: (key, input shape) -> (output shape, parameters); weights N(0, σ_w²/fan-in), biases N(0, σ_b²). It refuses
            images that are smaller than a window without padding (:class:`nngp_prior.errors.InvalidInput`).
        apply: (parameters, X) -> (n, 1) outputs.
        kernel_fn: (X, X2, get) -> (n, n2) infinite-width kernel.
    """

    init: Callable[..., Any]
    apply: Callable[..., Any]
    kernel_fn: Callable[..., Any]


def network(architecture: Architecture) -> Network:
    """Build a network.

    Args:
        architecture: its specification.

    Returns:
        initialiser, forward pass and kernel, with the same variances.
    """
    return network_of(layers_of(architecture))


def network_of(layers: Layers) -> Network:
    """Build what some layers of a network compute.

    Args:
        layers: from the input on; none is the identity.

    Returns:
        initialiser, forward pass and kernel of the last layer's units.
    """
    init, apply, kernel_fn = _serial(layers) if layers else stax.Identity()

    def checked(key: Any, input_shape: tuple[int, ...]) -> Any:
        weights_of(layers, tuple(input_shape[1:]))  # neural-tangents makes empty images of those that are too small
        return init(key, input_shape)

    return Network(checked, apply, kernel_fn)


def _serial(layers: Layers) -> Any:
    return stax.serial(*(_stax(layer) for layer in layers))


def _stax(layer: Layer) -> Any:
    # In "standard" parametrisation the variances are those of the weights themselves, as in the specification. The NNGP
    # kernel is the same in either.
    match layer:
        case Dense(units=units):
            return stax.Dense(units, parameterization="standard", **_variances(layer))
        case Convolution():
            return _convolution(layer)
        # neural-tangents' ReLU is ``maximum``, whose derivative at 0 is 1/2 in JAX. Here derivatives at kinks are those
        # on the left, as in PyTorch and TensorFlow.
        case Activation(name="relu"):
            return _with_apply(stax.Relu(), jax.nn.relu)
        case Activation(name="leaky-relu", negative_slope=slope):
            return _with_apply(stax.LeakyRelu(slope), lambda x: jnp.where(x > 0, x, slope * x))
        case Activation(name=name):
            smooth = {
                "erf": stax.Erf,
                "gelu": stax.Gelu,
                "sin": stax.Sin,
                "cos": stax.Cos,
                "identity": stax.Identity,
            }
            return smooth[name]()
        case LayerNorm():
            return stax.LayerNorm()
        case Pooling(operation=operation, size=size, stride=stride):
            pool = stax.AvgPool if operation == "average" else stax.SumPool
            return pool((size, size), (stride, stride))
        case Flatten():
            return stax.Flatten()
        case GlobalAveragePool():
            return stax.GlobalAvgPool()
        case Sum(main=main, shortcut=shortcut):
            branches = (_serial(branch) if branch else stax.Identity() for branch in (main, shortcut))
            return stax.serial(stax.FanOut(2), stax.parallel(*branches), stax.FanInSum())


def _with_apply(layer: Any, function: Callable[[Array], Array]) -> Any:
    """A layer without parameters, with another forward pass."""
    init, _, kernel_fn = layer
    return init, lambda parameters, x, **_: function(x), kernel_fn


def _convolution(layer: Convolution) -> Any:
    size, stride, padding = layer.size, layer.stride, layer.padding
    shape = (layer.channels, (size, size), (stride, stride), padding.upper())
    init, on_accelerator, kernel_fn = stax.Conv(*shape, parameterization="standard", **_variances(layer))

    def apply(parameters: Any, x: Any, **options: Any) -> Any:
        if jax.default_backend() != "cpu":
            return on_accelerator(parameters, x, **options)
        weights, biases = parameters
        y = convolve(jnp.asarray(x), jnp.asarray(weights), stride, padding)
        return y if biases is None else y + biases

    return init, apply, kernel_fn


def _variances(layer: Dense | Convolution) -> dict[str, float | None]:
    return {"W_std": layer.weight_std, "b_std": layer.bias_std or None}
