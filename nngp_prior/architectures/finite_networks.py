"""Finite networks: initialiser and forward pass of a sequence of layers.

Parameters have the layout of ``stax``: a list with one entry per layer, (weights, biases) for a layer with weights, ()
for one without, and [(), (main branch, shortcut), ()] for a sum. Keys are split as ``stax.serial`` and
``stax.parallel`` split them, so that a key gives the weights that neural-tangents draws from it in its "standard"
parametrisation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

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
from nngp_prior.schemas.specs.architecture import Architecture

_EPSILON = 1e-12  # added to the variance that layer norm divides by


class Network(NamedTuple):
    """Finite network.

    Attributes:
        init: (key, input shape) -> (output shape, parameters); weights N(0, σ_w²/fan-in), biases N(0, σ_b²). Raises
            :class:`nngp_prior.errors.InvalidInput` if images are smaller than a window without padding.
        apply: (parameters, X) -> outputs; (n, outputs) for a specification's network.
    """

    init: Callable[..., Any]
    apply: Callable[..., Any]


def network(architecture: Architecture, outputs: int = 1) -> Network:
    """Build the finite network of a specification.

    Args:
        architecture: specification of the network.
        outputs: number of outputs.

    Returns:
        initialiser and forward pass.
    """
    return network_of(layers_of(architecture, outputs))


def network_of(layers: Layers) -> Network:
    """Build the finite network of a sequence of layers.

    Args:
        layers: layers, from the input on; an empty sequence is the identity.

    Returns:
        initialiser and forward pass.
    """

    def init(key: Array, input_shape: tuple[int, ...]) -> tuple[tuple[int, ...], Any]:
        shape = tuple(input_shape)
        after = weights_of(layers, shape[1:])[1]  # refuses images that are too small
        return (shape[0], *after), _draw_all(layers, key, shape[1:])

    def apply(parameters: Any, X: Any) -> Array:
        return _apply_all(layers, parameters, jnp.asarray(X))

    return Network(init, apply)


def _draw_all(layers: Layers, key: Array, shape: tuple[int, ...]) -> Any:
    """Draw the parameters of layers in sequence; ``shape`` is that of one input."""
    parameters = []
    for layer in layers:
        key, own = jax.random.split(key)
        parameters.append(_draw(layer, own, shape))
        shape = weights_of((layer,), shape)[1]
    return parameters if layers else ()


def _draw(layer: Layer, key: Array, shape: tuple[int, ...]) -> Any:
    match layer:
        case Dense(units=units, weight_std=weight_std, bias_std=bias_std):
            fan_in, weights, biases = shape[-1], (shape[-1], units), (1,) * len(shape) + (units,)
        case Convolution(channels=channels, size=size, weight_std=weight_std, bias_std=bias_std):
            fan_in = shape[-1] * size**2
            weights, biases = (size, size, shape[-1], channels), (1, 1, 1, channels)
        case Sum(main=main, shortcut=shortcut):
            # stax has three layers here, which copy the input, apply the branches, and add up; keys are split for each.
            _, of_branches = jax.random.split(jax.random.split(key)[0])
            keys = jax.random.split(of_branches)
            return [(), (_draw_all(main, keys[0], shape), _draw_all(shortcut, keys[1], shape)), ()]
        case _:
            return ()
    of_weights, of_biases = jax.random.split(key)
    W = jax.random.normal(of_weights, weights) * (weight_std / fan_in**0.5)
    return W, jax.random.normal(of_biases, biases) * bias_std if bias_std else None


def _apply_all(layers: Layers, parameters: Any, x: Array) -> Array:
    for layer, of_layer in zip(layers, parameters, strict=True):
        x = _apply(layer, of_layer, x)
    return x


def _apply(layer: Layer, parameters: Any, x: Array) -> Array:
    match layer:
        case Dense():
            W, b = parameters
            y = jnp.moveaxis(jnp.tensordot(W, x, (0, -1)), 0, -1)
            return y if b is None else y + b
        case Convolution(stride=stride, padding=padding):
            W, b = parameters
            y = convolve(x, jnp.asarray(W), stride, padding)
            return y if b is None else y + b
        case Activation():
            return _activation(layer, x)
        case LayerNorm():
            return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(_EPSILON + x.var(-1, keepdims=True))
        case Pooling(operation=operation, size=size, stride=stride):
            y = lax.reduce_window(x, 0.0, lax.add, (1, size, size, 1), (1, stride, stride, 1), "VALID")
            return y / size**2 if operation == "average" else y
        case Flatten():
            return x.reshape(len(x), -1)
        case GlobalAveragePool():
            return x.mean((1, 2))
        case Sum(main=main, shortcut=shortcut):
            _, (of_main, of_shortcut), _ = parameters
            return _apply_all(main, of_main, x) + _apply_all(shortcut, of_shortcut, x)


def _activation(layer: Activation, x: Array) -> Array:
    """Apply φ; its derivatives at kinks are those on the left, as in PyTorch and TensorFlow."""
    match layer.name:
        case "relu":
            return jax.nn.relu(x)
        case "leaky-relu":
            return jnp.where(x > 0, x, layer.negative_slope * x)
        case "erf":
            return jax.scipy.special.erf(x)
        case "gelu":
            return jax.nn.gelu(x, approximate=False)
        case "sin":
            return jnp.sin(x)
        case "cos":
            return jnp.cos(x)
        case "identity":
            return x
