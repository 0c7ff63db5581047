"""Relative flatness against its definition with the dense Hessian."""

import jax
import numpy as np
import pytest

from nngp_prior import Convolutional, FromNetwork, FullyConnected, Residual
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.architecture import ConvolutionLayer, PoolingLayer
from nngp_prior.schemas.sharpness import RelativeFlatness
from nngp_prior.sharpness import Problem, measure, relative_flatness
from nngp_prior.sharpness.networks import finite_network, precisely
from nngp_prior.sharpness.rescaling import rescale, rescale_nodes

RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((20, 6))
IMAGES = RNG.standard_normal((12, 6, 6, 2))
CONVOLUTIONAL = Convolutional(layers=(ConvolutionLayer(channels=3), PoolingLayer()), bias_std=0.5)
CASES = {
    "relu": (FullyConnected(depth=2, width=5, bias_std=0.5), VECTORS),
    "erf, no biases": (FullyConnected(depth=2, width=4, activation="erf", bias_std=0), VECTORS),
    "gelu with layer norm": (FullyConnected(depth=1, width=4, activation="gelu", layer_norm=True), VECTORS),
    "perceptron": (FullyConnected(depth=0), VECTORS),
    "convolutional": (CONVOLUTIONAL, IMAGES),
    "residual": (Residual(groups=2, blocks=1, channels=2, readout="global-average-pool"), IMAGES),
}


def drawn(name: str, **options):
    architecture, X = CASES[name]
    y = np.where(RNG.random(len(X)) < 0.5, -1, 1)
    return architecture, finite_network(architecture, X.shape[1:]).init(3), (X, y)


def dense_hessian(architecture, parameters, data, loss: str) -> tuple[Problem, np.ndarray]:
    problem = Problem.of(architecture, parameters, data, loss=loss)
    with precisely():
        return problem, np.asarray(jax.hessian(problem.loss)(problem.theta))


def defined(problem: Problem, H: np.ndarray, layer: str) -> tuple[float, float]:
    """κ_Tr and κ of a layer as they are defined."""
    block = next(b for b in problem.blocks if b.layer == layer and b.role == "weight")
    places = np.arange(block.start, block.stop).reshape(block.shape)
    W = np.asarray(problem.theta)[places]
    units = range(block.shape[1])
    tracial = sum(W[:, s] @ W[:, t] * np.trace(H[np.ix_(places[:, s], places[:, t])]) for s in units for t in units)
    maximal = sum(
        W[:, s] @ W[:, s] * np.linalg.eigvalsh(H[np.ix_(places[:, s], places[:, s])])[-1] for s in units
    )
    return tracial, maximal


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_definition_for_each_dense_layer(name: str) -> None:
    architecture, parameters, data = drawn(name)
    loss = "mse" if name == "relu" else "cross-entropy"
    problem, H = dense_hessian(architecture, parameters, data, loss)
    dense = [layer for layer in problem.network.layers if layer.startswith("dense")]
    report = measure(architecture, parameters, data, [RelativeFlatness(layer="each")], loss=loss, chunk=7)
    assert [m.name for m in report] == [f"{kappa}[{layer}]" for layer in dense for kappa in ("kappa_tr", "kappa")]
    for layer in dense:
        tracial, maximal = defined(problem, H, layer)
        assert report[f"kappa_tr[{layer}]"].value == pytest.approx(tracial, rel=1e-10)
        assert report[f"kappa[{layer}]"].value == pytest.approx(maximal, rel=1e-10)
    last = measure(architecture, parameters, data, ["relative-flatness"], loss=loss)
    assert last["kappa_tr"].value == pytest.approx(tracial, rel=1e-10)
    assert last["kappa"].value == pytest.approx(maximal, rel=1e-10)
    assert last["kappa"].diagnostics["layer"] == dense[-1]


def test_layers_of_many_inputs_by_lanczos(monkeypatch: pytest.MonkeyPatch) -> None:
    architecture, parameters, data = drawn("erf, no biases")
    asked = [RelativeFlatness(layer="dense 2"), RelativeFlatness(layer="dense 2", normalise=True)]
    exact = [m.value for m in measure(architecture, parameters, data, asked)]
    monkeypatch.setattr(relative_flatness, "_DENSE", 3)
    report = measure(architecture, parameters, data, asked)
    assert [m.value for m in report] == pytest.approx(exact, rel=1e-6)
    assert [m.status for m in report] == ["ok"] * 4
