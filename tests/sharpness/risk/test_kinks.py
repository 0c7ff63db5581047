"""The derivative of ReLU at 0 is 0, as in PyTorch and TensorFlow, in all that is differentiated.

Inputs of zeros and biases of zeros make all preactivations 0, and f the bias of the output layer. Derivatives with
respect to other biases are proportional to the slope of the activation at 0.
"""

from typing import Any

import jax
import numpy as np
import pytest

from nngp_prior import FullyConnected
from nngp_prior.schemas.specs.architecture import Residual
from nngp_prior.schemas.specs.training import SGD, Training
from nngp_prior.sharpness import measure, train
from nngp_prior.sharpness.curvature.operators import operator_of
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.networks import finite_network

NETWORKS = [
    FullyConnected(depth=2, width=5),
    Residual(groups=1, channels=2),
]


def zeros(architecture: Any, n: int = 5) -> tuple[Any, tuple[np.ndarray, np.ndarray]]:
    """Parameters with biases of zeros, and data of zeros with more labels +1 than -1."""
    shape = (6,) if isinstance(architecture, FullyConnected) else (4, 4, 2)
    finite = finite_network(architecture, shape)
    drawn = jax.tree.leaves(finite.init(0))
    leaves = [leaf if block.role == "weight" else 0 * leaf for leaf, block in zip(drawn, finite.blocks, strict=True)]
    parameters = jax.tree.unflatten(finite.structure, leaves)
    return parameters, (np.zeros((n, *shape)), np.where(np.arange(n) < 1, -1, 1))


@pytest.mark.parametrize("architecture", NETWORKS, ids=lambda network: network.kind)
def test_only_the_last_bias_has_derivatives(architecture: Any) -> None:
    parameters, data = zeros(architecture)
    # Several chunks; one, whose linearisation all products share, for dense layers: these have formulas of their own.
    for chunk in (2, None) if isinstance(architecture, FullyConnected) else (2,):
        risk = EmpiricalRisk.of(architecture, parameters, *data, chunk=chunk)
        v = np.random.default_rng(0).standard_normal(risk.size)
        last = np.arange(risk.size) == risk.size - 1
        gradient = risk.gradient(risk.theta)
        np.testing.assert_allclose(gradient, -0.5 * np.mean(data[1]) * last, atol=1e-15)
        product = operator_of(risk, "hessian")(v)
        np.testing.assert_allclose(product, 0.25 * v * last, atol=1e-15)


@pytest.mark.parametrize("architecture", NETWORKS, ids=lambda network: network.kind)
def test_training_moves_the_last_bias_only(architecture: Any) -> None:
    parameters, data = zeros(architecture)
    training = Training(optimizer=SGD(learning_rate=0.1), batch_size=5, epochs=1, goal="none", dtype="float64")
    initial = jax.tree.map(lambda leaf: leaf[None], parameters)
    trained = train(architecture, *data, training, initial=initial)
    *others, last = zip(jax.tree.leaves(initial), jax.tree.leaves(trained.parameters), strict=True)
    for before, after in others:
        np.testing.assert_array_equal(before, after)
    np.testing.assert_allclose(last[1].ravel(), 0.05 * np.mean(data[1]), rtol=1e-12)


def test_measures() -> None:
    parameters, data = zeros(NETWORKS[0])
    report = measure(NETWORKS[0], parameters, *data, ["eigenvalues", "trace", "fisher-trace"])
    for name in ("lambda_max", "trace", "fisher_trace"):
        assert report[name].value == pytest.approx(0.25, rel=1e-12)


def test_leaky_relu_has_its_slope_at_zero() -> None:
    architecture = FullyConnected(depth=1, width=3, activation="leaky-relu", negative_slope=0.2)
    parameters, data = zeros(architecture)
    risk = EmpiricalRisk.of(architecture, parameters, *data)
    v = jax.tree.leaves(parameters)[2]  # f = v·φ(W x + b) + c
    expected = np.zeros(risk.size)
    expected[18:21], expected[-1] = 0.2 * np.ravel(v), 1.0
    np.testing.assert_allclose(risk.gradient(risk.theta), -0.5 * np.mean(data[1]) * expected, atol=1e-15)
