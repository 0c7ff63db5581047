"""Networks with C outputs: losses, derivatives and matrices against dense ones, and initialisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nngp_prior import FromNetwork, FullyConnected, kernel
from nngp_prior.errors import InvalidInput, InvalidLabels
from nngp_prior.sharpness.curvature.operators import operator_of
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.losses import cross_entropy, curvature, is_argmax_error, slope, softmax_cross_entropy
from nngp_prior.sharpness.risk.networks import finite_network, high_precision
from tests.sharpness.cases import (
    CLASSES,
    IMAGES,
    SMALL,
    being_read,
    classes_of,
    data,
    dense_of_classes,
    of_classes,
)

RISKS = {"cross-entropy": of_classes, "mse": lambda: of_classes("mse"), "one chunk": lambda: of_classes(chunk=20)}


@pytest.fixture(autouse=True)
def _float64():
    with high_precision():
        yield


@pytest.fixture(params=RISKS)
def risk(request: pytest.FixtureRequest) -> EmpiricalRisk:
    return RISKS[request.param]()


def test_loss_gradient_and_error_are_those_of_the_definitions(risk: EmpiricalRisk) -> None:
    expected = dense_of_classes(risk)
    value, gradient = risk.value_and_gradient(risk.theta)
    assert value == pytest.approx(expected.value, rel=1e-12)
    assert risk.loss(risk.theta) == pytest.approx(expected.value, rel=1e-12)
    np.testing.assert_allclose(gradient, expected.gradient, rtol=1e-9, atol=1e-13)
    f = np.asarray(risk.all_outputs(risk.theta))
    assert f.shape == (20, CLASSES)
    wrong = np.mean(f.argmax(axis=1) != np.asarray(risk.y))
    assert 0 < wrong < 1
    assert risk.error(risk.theta) == pytest.approx(wrong)


@pytest.mark.parametrize("matrix", ["hessian", "ggn", "empirical-fisher"])
def test_products_are_those_of_the_dense_matrices(risk: EmpiricalRisk, matrix: str) -> None:
    A, V = dense_of_classes(risk).matrix(matrix), np.random.default_rng(1).standard_normal((3, risk.size))
    operator = operator_of(risk, matrix)
    np.testing.assert_allclose([operator(v) for v in V], V @ A, rtol=1e-8, atol=1e-11 * np.abs(A).max())
    np.testing.assert_allclose(operator.quadratics(V), np.einsum("kp,pq,kq->k", V, A, V), rtol=1e-8)


def test_subsets_and_inputs_read_from_the_users_array_give_the_same() -> None:
    risk, rows = of_classes(), [3, 19, 3, 0]
    subset = risk.subset(rows)
    expected = dense_of_classes(risk)
    np.testing.assert_allclose(
        subset.gradient(risk.theta),
        np.einsum("nc,ncp->p", expected.slopes[rows], expected.jacobian[rows]) / 4,
        rtol=1e-9,
        atol=1e-13,
    )
    assert being_read(risk).loss(risk.theta) == risk.loss(risk.theta)


def test_two_outputs_have_the_loss_of_one_logit_their_difference() -> None:
    f = np.random.default_rng(0).standard_normal((7, 2)) * 5
    f[0] = [50.0, 0.0]  # a loss of e^-50 is not rounded to 0
    y = np.array([0, 1, 1, 0, 1, 0, 1])
    difference, sign = jnp.asarray(f[:, 1] - f[:, 0]), jnp.asarray(2.0 * y - 1)
    f, y = jnp.asarray(f), jnp.asarray(y, float)
    np.testing.assert_allclose(softmax_cross_entropy(f, y), cross_entropy(difference, sign), rtol=1e-12)
    slopes, curvatures = slope(cross_entropy, difference, sign), curvature(cross_entropy, difference, sign)
    toward = np.array([-1.0, 1.0])  # ∂(f₁ - f₀)/∂f
    np.testing.assert_allclose(slope(softmax_cross_entropy, f, y), slopes[:, None] * toward, rtol=1e-12)
    expected = curvatures[:, None, None] * np.outer(toward, toward)
    np.testing.assert_allclose(curvature(softmax_cross_entropy, f, y), expected, rtol=1e-9, atol=1e-25)


def test_large_outputs_have_finite_losses_and_derivatives() -> None:
    f, y = jnp.asarray([[1000.0, 0, -1000], [1000, 0, -1000]]), jnp.asarray([0.0, 2])
    np.testing.assert_array_equal(softmax_cross_entropy(f, y), [0, 2000])
    assert np.isfinite(slope(softmax_cross_entropy, f, y)).all()
    assert np.isfinite(curvature(softmax_cross_entropy, f, y)).all()


def test_ties_and_outputs_that_are_no_numbers_are_errors() -> None:
    f = jnp.asarray([[0.0, 2, 1], [2, 2, 1], [0, jnp.nan, 1], [jnp.nan, 2, 1], [0, 0, 0]])
    np.testing.assert_array_equal(is_argmax_error(f, jnp.ones(5)), [0, 1, 1, 1, 1])


def test_outputs_are_independent_draws_of_the_prior_of_one_output() -> None:
    network, X = FullyConnected(depth=1, width=256, bias_std=0.5), np.random.default_rng(2).standard_normal((2, 3))
    finite, seeds = finite_network(network, (3,), CLASSES), 4000
    with high_precision():
        draw = functions_of(finite)
        f = np.asarray(jax.jit(jax.vmap(lambda key: draw(key, X)))(jax.random.split(jax.random.key(5), seeds)))
    f = f.reshape(seeds, -1)  # input-major: f[input, output]
    products = f[:, :, None] * f[:, None, :]
    stderr = products.std(axis=0, ddof=1) / np.sqrt(seeds)
    expected = np.kron(kernel(network, X), np.eye(CLASSES))
    assert np.all(np.abs(products.mean(axis=0) - expected) < 4.5 * stderr)


def functions_of(finite):
    """(key, X) -> outputs of a new draw, compiled together with it."""
    from nngp_prior.architectures import network

    init = network(finite.architecture, finite.classes).init
    return lambda key, X: finite.forward(init(key, (1, *finite.input_shape))[1], X)


@pytest.mark.parametrize("architecture", [SMALL, IMAGES], ids=["fully-connected", "convolutional"])
def test_hidden_layers_are_drawn_as_for_one_output(architecture) -> None:
    shape = (4,) if architecture is SMALL else (4, 4, 1)
    one, several = finite_network(architecture, shape), finite_network(architecture, shape, CLASSES)
    assert [block.shape for block in several.blocks[:-2]] == [block.shape for block in one.blocks[:-2]]
    assert several.blocks[-2].shape == (one.blocks[-2].shape[0], CLASSES)
    hidden = one.blocks[-3].stop
    np.testing.assert_array_equal(several.flatten(several.init(3))[:hidden], one.flatten(one.init(3))[:hidden])


@pytest.mark.parametrize(
    ("y", "classes", "message"),
    [
        (classes_of(6) + 1, 3, r"y: y\[\d\] is 3\. With classes=3, labels are integers 0 … 2: pass y - 1"),
        (data(6, 4)[1], 3, r"y: y\[\d\] is -1\. With classes=3, .*; -1 and \+1 need no classes"),
        (data(6, 4)[1] > 0, 3, "y: got booleans. With classes=3"),
        (classes_of(6), None, r"y: y\[\d\] is \d\. .* pass classes=C, at least 3"),
        (classes_of(6), 1, "classes: got 1. Pass the number of classes C, 2 to"),
        (classes_of(6), True, "classes: got True"),
    ],
)
def test_labels_that_are_no_classes_are_refused(y: np.ndarray, classes: int | None, message: str) -> None:
    parameters = finite_network(SMALL, (4,), 3).init(0)
    with pytest.raises((InvalidInput, InvalidLabels), match=f"^{message}"):
        EmpiricalRisk.of(SMALL, parameters, data(6, 4)[0], y, classes=classes)


def test_ones_own_network_needs_an_output_per_class() -> None:
    own = FromNetwork(lambda key, shape: ((1, 3), jnp.ones((4, 3))), lambda W, X: X @ W, name="linear, three outputs")
    assert finite_network(own, (4,), 3).classes == 3
    for classes in (None, 2):
        with pytest.raises(InvalidInput, match=r"^architecture: gives outputs of shape \(3, 3\) for 3 inputs"):
            finite_network(own, (4,), classes)
