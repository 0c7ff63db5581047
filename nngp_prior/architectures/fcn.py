"""Fully connected networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from nngp_prior.architectures._neural_tangents import stax
from nngp_prior.schemas.architecture import FullyConnected


class Network(NamedTuple):
    """A network in the shape of a ``stax`` triple.

    Attributes:
        init: (key, input shape) -> (output shape, parameters); weights N(0, σ_w²/fan-in), biases N(0, σ_b²).
        apply: (parameters, X) -> (n, 1) outputs.
        kernel_fn: (X, X2, get) -> (n, n2) infinite-width kernel.
    """

    init: Callable[..., Any]
    apply: Callable[..., Any]
    kernel_fn: Callable[..., Any]


def network(architecture: FullyConnected) -> Network:
    """Build a network.

    Args:
        architecture: its specification.

    Returns:
        initialiser, forward pass and kernel, with the same variances.
    """
    # In "standard" parametrisation the variances are those of the weights themselves, as in the specification. The NNGP
    # kernel is the same in either.
    variances = {"W_std": architecture.weight_std, "b_std": architecture.bias_std or None}
    activation = {"relu": stax.Relu, "erf": stax.Erf}[architecture.activation]
    hidden = []
    for _ in range(architecture.depth):
        hidden += [stax.Dense(architecture.width, parameterization="standard", **variances), activation()]
    return Network(*stax.serial(*hidden, stax.Dense(1, parameterization="standard", **variances)))
