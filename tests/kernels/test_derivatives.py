"""Derivatives of kernels with respect to σ_w and σ_b against finite differences."""

import numpy as np
import pytest

from nngp_prior import Convolutional, FullyConnected, Residual, kernel
from nngp_prior.schemas.specs.architecture import Architecture, ConvolutionLayer, PoolingLayer

FIELDS = ("weight_std", "bias_std")
ACTIVATIONS = ("relu", "leaky-relu", "erf", "gelu", "sin", "cos", "identity")


def finite_difference(architecture: Architecture, X: np.ndarray, field: str) -> np.ndarray:
    """Central differences of fourth order; of a variance, since K depends on σ² and σ_b may be 0."""
    value = getattr(architecture, field)
    h = 2e-4 * value

    def at(step: int) -> np.ndarray:
        return kernel(architecture.model_copy(update={field: value + step * h}), X)

    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h)


def check(architecture: Architecture, X: np.ndarray) -> None:
    for field in FIELDS:
        found = kernel(architecture, X, get=f"d-{field.replace('_', '-')}")
        assert np.array_equal(found, found.T)
        expected = finite_difference(architecture, X, field)
        assert np.abs(found - expected).max() < 1e-8 * np.abs(expected).max()


@pytest.mark.parametrize(("activation", "layer_norm"), [*((name, False) for name in ACTIVATIONS), ("relu", True)])
def test_fully_connected(activation: str, layer_norm: bool) -> None:
    """With copies, an opposite, an orthogonal and a zero input, at which JAX's own rules give NaN."""
    X = np.random.default_rng(0).standard_normal((8, 3))
    X[1], X[2], X[3], X[4], X[5] = X[0], -X[0], 0, [1, 0, 0], [0, 1, 0]
    check(FullyConnected(depth=2, activation=activation, layer_norm=layer_norm, weight_std=1.3, bias_std=0.4), X)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "architecture",
    [
        Convolutional(layers=(ConvolutionLayer(), PoolingLayer(), ConvolutionLayer(stride=2)), activation="erf"),
        Convolutional(layers=(ConvolutionLayer(padding="circular"),), readout="global-average-pool"),
        Residual(groups=1, readout="flatten"),
    ],
)
def test_networks_on_images(architecture: Architecture) -> None:
    check(architecture, np.random.default_rng(1).standard_normal((3, 4, 4, 2)))


def test_without_biases_nothing_depends_on_them() -> None:
    X = np.random.default_rng(2).standard_normal((4, 3))
    X[1] = 0
    architecture = FullyConnected(bias_std=0.0)
    assert not kernel(architecture, X, get="d-bias-std").any()
    K = kernel(architecture, X)
    # K is proportional to σ_w^(2 (depth + 1))
    np.testing.assert_allclose(kernel(architecture, X, get="d-weight-std"), 6 / architecture.weight_std * K, rtol=1e-12)


def test_tiles_and_other_inputs_have_the_same_entries() -> None:
    X = np.random.default_rng(3).standard_normal((700, 3))
    architecture = FullyConnected(depth=1, activation="gelu")
    whole = kernel(architecture, X, get="d-weight-std")
    np.testing.assert_allclose(kernel(architecture, X[:5], X[650:], get="d-weight-std"), whole[:5, 650:], rtol=1e-13)
