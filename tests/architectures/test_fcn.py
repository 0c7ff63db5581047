"""Finite networks against the kernel they converge to."""

import jax
import numpy as np
import pytest

from nngp_prior.architectures import network
from nngp_prior.kernels import kernel
from nngp_prior.schemas.specs.architecture import FullyConnected

X = np.random.default_rng(0).standard_normal((5, 6))


def outputs(architecture: FullyConnected, networks: int, batch: int = 250) -> np.ndarray:
    """The outputs of many random networks, one network a row."""
    init, apply = network(architecture)

    def one(key):
        _, parameters = init(key, (-1, X.shape[1]))
        return apply(parameters, X)[:, 0]

    keys = jax.random.split(jax.random.key(0), networks)
    return np.asarray(jax.jit(lambda k: jax.lax.map(one, k, batch_size=batch))(keys), dtype=np.float64)


@pytest.mark.parametrize(
    "architecture",
    [
        FullyConnected(depth=0, weight_std=1.5, bias_std=0.5),
        FullyConnected(depth=1, activation="erf", width=64, weight_std=1.5, bias_std=0.5),
        FullyConnected(depth=2, width=48, bias_std=0.3),
        FullyConnected(depth=1, width=64, bias_std=0),
    ],
    ids=["perceptron", "erf", "relu", "relu without biases"],
)
def test_random_networks_have_the_kernel_as_their_covariance(architecture: FullyConnected) -> None:
    """Up to one hidden layer the covariance is K at any width; with two, up to about a 48th, far below 4 s.e."""
    f = outputs(architecture, networks=2000)
    products = f[:, :, None] * f[:, None, :]
    stderr = products.std(axis=0) / np.sqrt(len(f))
    z = (products.mean(axis=0) - kernel(architecture, X)) / stderr
    assert np.abs(z).max() < 4
    assert np.abs(f.mean(axis=0) / f.std(axis=0)).max() * np.sqrt(len(f)) < 4


def test_finite_networks_have_the_layers_and_variances_of_the_specification() -> None:
    """784-400-400-1 is depth 2; weights are N(0, σ_w²/fan-in), biases N(0, σ_b²)."""
    architecture = FullyConnected(depth=2, width=400, weight_std=1.5, bias_std=0.3)
    shape, parameters = network(architecture).init(jax.random.key(0), (-1, 784))
    assert shape == (-1, 1)
    layers = [layer for layer in parameters if layer]
    assert [weights.shape for weights, _ in layers] == [(784, 400), (400, 400), (400, 1)]
    for weights, biases in layers:
        fan_in = weights.shape[0]
        assert abs(weights.std() * fan_in**0.5 / 1.5 - 1) < 4 / (2 * weights.size) ** 0.5
        assert biases.size == weights.shape[1]
    biases = np.concatenate([np.ravel(biases) for _, biases in layers])
    assert abs(biases.std() / 0.3 - 1) < 4 / (2 * biases.size) ** 0.5
