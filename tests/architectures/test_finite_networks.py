"""Finite networks against neural-tangents: the same weights from the same key, and the same outputs."""

import jax
import numpy as np
import pytest

from nngp_prior.architectures import network
from nngp_prior.schemas.specs.architecture import (
    Architecture,
    Convolutional,
    ConvolutionLayer,
    FullyConnected,
    PoolingLayer,
    Residual,
)
from tests.kernels.stax_networks import stax_of


def _pooled(operation: str, padding: str) -> Convolutional:
    layers = (
        ConvolutionLayer(size=3, stride=2, padding=padding),
        PoolingLayer(size=2, stride=1, operation=operation),
        ConvolutionLayer(size=2, padding=padding),
    )
    return Convolutional(channels=3, layers=layers, layer_norm=padding == "same")


CASES: list[Architecture] = [
    *(
        FullyConnected(depth=2, width=5, activation=activation, bias_std=bias_std, layer_norm=layer_norm)
        for activation in ("relu", "leaky-relu", "erf", "gelu", "sin", "cos", "identity")
        for bias_std, layer_norm in ((0, False), (0.3, True))
    ),
    *(_pooled(operation, padding) for operation in ("average", "sum") for padding in ("same", "valid", "circular")),
    Convolutional(channels=4, readout="global-average-pool"),
    Residual(channels=3, bias_std=0.1),
    Residual(channels=3, blocks=2, groups=2, bias_std=0),
]


@pytest.mark.parametrize("architecture", CASES, ids=lambda each: f"{each.kind}-{each.activation}")
def test_weights_and_outputs_are_those_of_neural_tangents(architecture: Architecture) -> None:
    shape = (4, 6) if isinstance(architecture, FullyConnected) else (2, 9, 8, 2)
    X, key = np.random.default_rng(0).standard_normal(shape), jax.random.key(3)
    ours, theirs = network(architecture), stax_of(architecture)
    with jax.enable_x64(True):
        output_shape, parameters = ours.init(key, shape)
        expected_shape, expected = theirs[0](key, shape)
        outputs, expected_outputs = ours.apply(parameters, X), theirs[1](expected, X)
    assert output_shape == tuple(expected_shape) == outputs.shape
    assert jax.tree.structure(parameters) == jax.tree.structure(expected)
    for leaf, expected_leaf in zip(jax.tree.leaves(parameters), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(leaf, expected_leaf)
    np.testing.assert_allclose(outputs, expected_outputs, rtol=1e-12, atol=1e-14)
