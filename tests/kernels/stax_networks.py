"""Networks of neural-tangents, the reference for finite networks and kernels."""

from __future__ import annotations

from typing import Any

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
from nngp_prior.architectures.neural_tangents import stax
from nngp_prior.schemas.specs.architecture import Architecture


def stax_of(architecture: Architecture) -> Any:
    """The triple (init, apply, kernel_fn) of neural-tangents for a specification."""
    return _serial(layers_of(architecture))


def _serial(layers: Layers) -> Any:
    return stax.serial(*(_stax(layer) for layer in layers))


def _stax(layer: Layer) -> Any:
    # In "standard" parametrisation the variances are those of the weights themselves, as in the specification. The NNGP
    # kernel is the same in either.
    match layer:
        case Dense(units=units):
            return stax.Dense(units, parameterization="standard", **_variances(layer))
        case Convolution(channels=channels, size=size, stride=stride, padding=padding):
            shape = (channels, (size, size), (stride, stride), padding.upper())
            return stax.Conv(*shape, parameterization="standard", **_variances(layer))
        case Activation(name="relu"):
            return stax.Relu()
        case Activation(name="leaky-relu", negative_slope=slope):
            return stax.LeakyRelu(slope)
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


def _variances(layer: Dense | Convolution) -> dict[str, float | None]:
    return {"W_std": layer.weight_std, "b_std": layer.bias_std or None}
