"""Other parameters of the same function."""

import jax
import numpy as np
import pytest

from nngp_prior import Convolutional, FromNetwork, FullyConnected, Residual
from nngp_prior.architectures import network
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.specs.architecture import ConvolutionLayer, PoolingLayer
from nngp_prior.sharpness.rescaling import ALPHA, hidden_layers, rescale, rescale_nodes
from nngp_prior.sharpness.risk.networks import finite_network

ALPHAS = (ALPHA, 0.3)
IMAGES = np.random.default_rng(1).standard_normal((4, 6, 6, 2))
SMALL = {"channels": 3, "bias_std": 0.5}
ARCHITECTURES = {
    "relu": (FullyConnected(depth=3, width=5, bias_std=0.5), 3),
    "leaky": (FullyConnected(depth=1, width=5, activation="leaky-relu", negative_slope=0.3), 1),
    "linear without biases": (FullyConnected(depth=2, width=5, activation="identity", bias_std=0), 2),
    "flattened": (Convolutional(layers=(ConvolutionLayer(), PoolingLayer(), ConvolutionLayer(channels=4)), **SMALL), 2),
    "averaged": (Convolutional(layers=(ConvolutionLayer(),) * 2, readout="global-average-pool", **SMALL), 2),
    "residual": (Residual(groups=2, blocks=2, **SMALL), 4),
}


def drawn(architecture, dtype=np.float64):
    """Inputs, parameters in NumPy, and the forward pass."""
    X = IMAGES.reshape(len(IMAGES), -1) if isinstance(architecture, FullyConnected) else IMAGES
    init, apply = network(architecture)
    apply = jax.jit(apply)
    with jax.enable_x64(True):
        _, parameters = init(jax.random.key(0), (1, *X.shape[1:]))
        parameters = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), parameters)

    def forward(parameters):
        with jax.enable_x64(True):
            return np.asarray(apply(parameters, X.astype(dtype)))[:, 0]

    return parameters, forward


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_function_is_the_same_and_the_parameters_are_not(name: str) -> None:
    architecture, layers = ARCHITECTURES[name]
    parameters, forward = drawn(architecture)
    before = forward(parameters)
    assert np.abs(before).min() > 1e-3
    assert len(hidden_layers(architecture)) == layers
    others = [rescale(architecture, parameters, alpha, layer=layer) for alpha in ALPHAS for layer in range(layers)]
    others += [rescale_nodes(architecture, parameters, layer=layer) for layer in range(layers)]
    others += [rescale_nodes(architecture, parameters, 20.0, seed=5)]
    for other in others:
        assert jax.tree.structure(other) == jax.tree.structure(parameters)
        assert forward(other) == pytest.approx(before, rel=1e-10, abs=1e-12)
        moved = [np.abs(a / b - 1).max() > 0.1 for a, b in zip(*map(jax.tree.leaves, (other, parameters)), strict=True)]
        assert sum(moved) >= 2


def test_alpha_goes_where_dinh_et_al_put_it() -> None:
    architecture = FullyConnected(depth=2, width=4, bias_std=0.5)
    parameters, _ = drawn(architecture)
    found = [layer for layer in rescale(architecture, parameters) if layer]
    (w1, b1), (w2, b2), (w3, b3) = (layer for layer in parameters if layer)
    for a, b in zip(jax.tree.leaves(found), (w1 / 5.9, b1 / 5.9, w2 * 5.9, b2, w3, b3), strict=True):
        assert a == pytest.approx(b, rel=1e-14)


def test_nodes_have_factors_between_1_over_alpha_and_alpha() -> None:
    architecture = FullyConnected(depth=1, width=400, bias_std=0.5)
    parameters, _ = drawn(architecture)
    (before, _), (after, _) = parameters[0], rescale_nodes(architecture, parameters, 3.0, seed=1)[0]
    c = before / after
    assert np.ptp(c, axis=0).max() < 1e-12
    logs = np.log(c[0]) / np.log(3.0)
    assert np.abs(logs).max() <= 1
    assert abs(logs.mean()) < 4 / (3 * 400) ** 0.5
    assert abs((logs**2).mean() - 1 / 3) < 4 * (4 / 45 / 400) ** 0.5
    other = rescale_nodes(architecture, parameters, 3.0, seed=2)[0][0]
    assert not np.allclose(other, after)


def test_many_networks_at_once_and_float32() -> None:
    architecture, _ = ARCHITECTURES["flattened"]
    parameters, forward = drawn(architecture, np.float32)
    several = jax.tree.map(lambda leaf: np.stack([leaf, 2 * leaf]), parameters)
    for function in (rescale, rescale_nodes):
        found = function(architecture, several, 3.0)
        alone = function(architecture, parameters, 3.0)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(alone), strict=True):
            assert a.dtype == b.dtype == np.float32
            assert np.array_equal(a[0], b)
        assert forward(alone) == pytest.approx(forward(parameters), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("architecture", "options", "field", "risk"),
    [
        (FullyConnected(activation="erf"), {}, "architecture.activation", "erf"),
        (FullyConnected(layer_norm=True), {}, "architecture.layer_norm", "scale"),
        (FullyConnected(depth=0), {}, "architecture", "no hidden layer"),
        (FromNetwork(print, print, name="mine"), {}, "architecture", "'mine'"),
        (FullyConnected(), {"layer": 2}, "layer", "got 2 where there are 2"),
        (FullyConnected(), {"layer": -1}, "layer", "got -1"),
        (FullyConnected(), {"alpha": 0.0}, "alpha", "got 0.0"),
        (FullyConnected(), {"alpha": float("nan")}, "alpha", "got nan"),
    ],
)
def test_what_cannot_be_rescaled(architecture, options: dict, field: str, risk: str) -> None:
    for function in (rescale, rescale_nodes):
        with pytest.raises(InvalidInput, match=risk) as refused:
            function(architecture, (), **options)
        assert refused.value.field == field


def test_parameters_of_another_network_are_refused() -> None:
    architecture, other = FullyConnected(depth=2, width=4), FullyConnected(depth=2, width=5)
    for parameters in (None, (), [1.0, 2.0], {"W": np.ones((3, 4))}, finite_network(other, (3,)).init(0)):
        for function in (rescale, rescale_nodes):
            with pytest.raises(InvalidInput, match=r"^parameters: are not those of the architecture"):
                function(architecture, parameters, 2.0)
