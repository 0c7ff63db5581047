from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nngp_prior import FromNetwork, FullyConnected
from nngp_prior.architectures import network
from nngp_prior.schemas.measures.curvature import FisherTrace
from nngp_prior.sharpness.curvature import dense_networks
from nngp_prior.sharpness.curvature.dense_networks import has_formulas
from nngp_prior.sharpness.curvature.operators import Operator, ggn, hessian, operator_of
from nngp_prior.sharpness.curvature.products import FACTORS, start_vector
from nngp_prior.sharpness.measurement import measure_risk
from nngp_prior.sharpness.risk.chunked_inputs import Held
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.minibatches import minibatch
from nngp_prior.sharpness.risk.networks import finite_network, high_precision
from tests.sharpness.cases import SMALL, data, dense, linearised, small

CASES = [
    (FullyConnected(depth=2, width=5), "cross-entropy"),
    (FullyConnected(depth=0), "mse"),
    (FullyConnected(depth=2, width=4, activation="gelu", bias_std=0), "mse"),
]


def as_users_own(architecture: FullyConnected) -> FromNetwork:
    """The same functions, of which it is not known what they are."""
    functions = network(architecture)
    return FromNetwork(functions.init, functions.apply, name="own")


def assert_products(operator: Operator) -> None:
    """All products, against the dense matrix."""
    risk, A = operator.risk, dense(operator.risk, operator.matrix)
    v = np.random.default_rng(0).standard_normal(risk.size)
    V = np.stack([v, 2 * v[::-1], v**2])
    expected = V @ A
    scale = np.abs(expected).max()
    with high_precision():
        quadratics, intermediates = operator.forward([*jnp.asarray(V)])
    np.testing.assert_allclose(operator.backward(intermediates), expected, atol=1e-13 * scale)
    for found in (quadratics, operator.quadratics(V)):
        np.testing.assert_allclose(found, np.sum(V * expected, axis=1), rtol=1e-11)
    np.testing.assert_allclose(operator(v), expected[0], atol=1e-13 * scale)
    J, first, second = linearised(risk)
    near = (first**2 if operator.matrix == "empirical-fisher" else second) @ J
    start = near / np.linalg.norm(near) + 0.05 * v / np.linalg.norm(v)
    np.testing.assert_allclose(operator.start_vector(v), start, atol=1e-13)


@pytest.mark.parametrize("matrix", FACTORS)
def test_products_of_one_chunk_with_a_shared_linearisation(matrix: str) -> None:
    risk = small().subset(range(3))
    own = EmpiricalRisk.of(
        as_users_own(SMALL.model_copy(update={"activation": "erf"})), risk.unravel(risk.theta), risk.X, risk.y
    )
    assert has_formulas(risk.network)
    assert not has_formulas(own.network)
    for each in (risk, own):
        assert_products(operator_of(each, matrix))


@pytest.mark.parametrize(("architecture", "loss"), CASES)
def test_products_of_several_chunks(architecture: FullyConnected, loss: str) -> None:
    X, y = data(11, 6)
    X[3] = 0  # at the kink of relu where there are no biases
    risk = EmpiricalRisk.of(architecture, finite_network(architecture, (6,)).init(1), X, y, loss=loss, chunk=4)
    assert has_formulas(risk.network)
    for matrix in FACTORS:
        assert_products(operator_of(risk, matrix))
    diagonal = dense(risk, "ggn").diagonal()
    found = [each.value for each in measure_risk(risk, [FisherTrace(layer="each")], 0).measurements]
    expected = [diagonal[slice(*risk.network.slice_of(layer))].sum() for layer in risk.network.layers]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_other_networks_are_left_to_jax() -> None:
    architecture = FullyConnected(depth=1, width=4, layer_norm=True)
    risk = EmpiricalRisk.of(architecture, finite_network(architecture, (3,)).init(0), *data(6, 3))
    assert not has_formulas(risk.network)


def test_several_vectors_at_once() -> None:
    architecture = FullyConnected(depth=1, width=4, activation="erf")
    risk = EmpiricalRisk.of(architecture, finite_network(architecture, (3,)).init(0), *data(6, 3))
    V = np.random.default_rng(0).standard_normal((3, risk.size))
    H = hessian(risk)
    with high_precision():
        together = np.asarray(jax.vmap(H.product)(V))
    np.testing.assert_allclose(together, [H(v) for v in V], atol=1e-14)


def test_a_minibatch_has_products_of_its_own_examples() -> None:
    architecture = FullyConnected(depth=1, width=4, activation="erf")
    risk = EmpiricalRisk.of(architecture, finite_network(architecture, (3,)).init(0), *data(6, 3))
    rows, v = np.array([4, 1, 5, 0, 3, 2])[:4], np.ones(risk.size)
    with high_precision():
        part = minibatch(risk, jnp.asarray(rows))
    for matrix in (hessian, ggn):
        np.testing.assert_allclose(matrix(part)(v), matrix(risk.subset(rows))(v), rtol=1e-12, atol=1e-15)


def test_some_examples_stand_for_all_in_the_first_layer_of_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    risk = small().subset(range(6))
    with high_precision():
        linearisation = operator_of(risk, "ggn").linearisation
        all_of_them = np.asarray(start_vector(risk, "ggn", linearisation))
        monkeypatch.setattr(dense_networks, "_SAMPLE", 3)
        found = np.asarray(start_vector(risk, "ggn", linearisation))
        every_other = replace(risk, inputs=Held(risk.inputs.stack[:, ::2]), labels=risk.labels[:, ::2])
        half = operator_of(replace(every_other, weights=risk.weights[:, ::2]), "ggn")
        of_half = np.asarray(start_vector(half.risk, "ggn", half.linearisation))
    first = risk.blocks[0]
    np.testing.assert_allclose(found[first.stop :], all_of_them[first.stop :], rtol=1e-12)
    np.testing.assert_allclose(found[: first.stop], 2 * of_half[: first.stop], rtol=1e-12)
    assert np.abs(found - all_of_them).max() > 0.01 * np.abs(all_of_them).max()
