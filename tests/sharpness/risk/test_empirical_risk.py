import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nngp_prior import FromNetwork, FullyConnected
from nngp_prior.errors import InvalidInput, InvalidLabels
from nngp_prior.sharpness.curvature.operators import as_scipy, empirical_fisher, ggn, hessian, operator_of
from nngp_prior.sharpness.risk import validation as inputs
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.networks import finite_network, high_precision
from nngp_prior.sharpness.risk.validation import fitting_rows
from tests.sharpness.cases import IMAGES, SMALL, being_read, data, dense, images, small, trained

PROBLEMS = {"cross-entropy": small, "mse": lambda: small("mse"), "images": images}


@pytest.fixture(params=[*PROBLEMS, "cross-entropy, read", "images, read"])
def risk(request: pytest.FixtureRequest) -> EmpiricalRisk:
    name, _, read = request.param.partition(", ")
    return being_read(PROBLEMS[name]()) if read else PROBLEMS[name]()


def outputs(risk: EmpiricalRisk) -> np.ndarray:
    return np.asarray(risk.network.apply(risk.unravel(risk.theta), np.asarray(risk.X)))


def losses(risk: EmpiricalRisk) -> np.ndarray:
    f, y = outputs(risk), np.asarray(risk.y)
    return (f - y) ** 2 if risk.loss_name == "mse" else np.log1p(np.exp(-y * f))


def test_loss_and_error_are_means_over_examples_whatever_the_chunks(risk: EmpiricalRisk) -> None:
    assert risk.labels.shape[0] > 1
    assert risk.n % risk.chunk
    assert risk.loss(risk.theta) == pytest.approx(losses(risk).mean(), rel=1e-13)
    assert risk.error(risk.theta) == pytest.approx(np.mean(outputs(risk) * np.asarray(risk.y) <= 0))
    np.testing.assert_allclose(risk.all_outputs(risk.theta), outputs(risk), rtol=1e-12)


def test_the_gradient_is_that_of_the_loss(risk: EmpiricalRisk) -> None:
    value, gradient = risk.value_and_gradient(risk.theta)
    assert value == risk.loss(risk.theta)
    np.testing.assert_array_equal(gradient, risk.gradient(risk.theta))
    step = 1e-6 * np.random.default_rng(0).standard_normal(risk.size)
    theta = np.asarray(risk.theta)
    slope = float(risk.loss(theta + step) - risk.loss(theta - step)) / 2
    assert slope == pytest.approx(float(np.asarray(gradient) @ step), rel=1e-6)
    with high_precision():
        np.testing.assert_allclose(jax.grad(risk.loss)(risk.theta), gradient, rtol=1e-10, atol=1e-15)


def test_gradients_of_examples_have_the_gradient_as_their_mean(risk: EmpiricalRisk) -> None:
    with high_precision():
        of_examples = jax.jit(EmpiricalRisk.example_gradients)(risk, risk.theta, risk.X, risk.y)
    assert of_examples.shape == (risk.n, risk.size)
    np.testing.assert_allclose(np.asarray(of_examples).mean(axis=0), risk.gradient(risk.theta), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("matrix", ["hessian", "ggn", "empirical-fisher"])
@pytest.mark.parametrize("risk", PROBLEMS, indirect=True)
def test_products_are_those_of_the_dense_matrices(risk: EmpiricalRisk, matrix: str) -> None:
    A, V = dense(risk, matrix), np.random.default_rng(1).standard_normal((3, risk.size))
    operator = {"hessian": hessian, "ggn": ggn, "empirical-fisher": empirical_fisher}[matrix](risk)
    with high_precision():
        found = jax.vmap(operator.product)(jnp.asarray(V))
    np.testing.assert_allclose(found, V @ A, rtol=1e-9, atol=1e-12 * np.abs(A).max())


def test_scipy_takes_them() -> None:
    risk = small()
    operator = as_scipy(ggn(risk))
    assert operator.shape == (risk.size, risk.size)
    G = dense(risk, "ggn")
    np.testing.assert_allclose(operator @ np.eye(risk.size)[:, 3:5], G[:, 3:5], atol=1e-13)
    block = as_scipy(hessian(risk, "dense 2"))
    np.testing.assert_allclose(block @ np.ones(30), dense(risk)[25:55, 25:55].sum(axis=1), atol=1e-13)
    with pytest.raises(InvalidInput, match=r"^matrix: got 'fisher'"):
        operator_of(risk, "fisher")
    with pytest.raises(InvalidInput, match=r"^layer: got 'dense 9'"):
        empirical_fisher(risk, "dense 9")


def test_means_of_functions_of_the_outputs_gradient() -> None:
    risk = small()
    with high_precision():
        X, theta = risk.X, risk.theta
        J = np.asarray(jax.jacrev(lambda theta: risk.outputs(theta, X))(theta))
        function = jax.jit(lambda risk: risk.mean_over_gradients(lambda g, f, y: {"a": g * y, "b": f**2}, risk.theta))
        found = function(risk)
    np.testing.assert_allclose(found["a"], np.asarray(risk.y) @ J / risk.n, rtol=1e-10)
    assert found["b"] == pytest.approx(np.mean(outputs(risk) ** 2))


def test_a_subset_is_the_problem_on_its_examples() -> None:
    risk = small()
    rows = [3, 19, 3, 0]
    subset = risk.subset(rows)
    np.testing.assert_array_equal(subset.y, np.asarray(risk.y)[rows])
    assert subset.loss(subset.theta) == pytest.approx(losses(risk)[rows].mean(), rel=1e-13)
    for wrong in ([], [20], [-1]):
        with pytest.raises(InvalidInput, match=r"^rows: "):
            risk.subset(wrong)


def test_nothing_is_traced_again_for_other_numbers() -> None:
    calls = []

    def apply(theta, X):
        calls.append(X.shape)
        return X @ theta

    network = FromNetwork(lambda key, shape: ((1,), jnp.ones(shape[-1])), apply, name="counting")
    risk = EmpiricalRisk.of(network, np.ones(4), *data(20, 4))
    hessian(risk)(np.ones(4))
    calls.clear()
    hessian(risk.at(2 * np.ones(4)))(4 * np.ones(4))
    hessian(EmpiricalRisk.of(network, 2 * np.ones(4), 2 * data(20, 4)[0], data(20, 4)[1]))(np.ones(4))
    assert not calls
    risk.subset(range(5)).gradient(risk.theta)
    calls.clear()
    risk.subset(range(5, 10)).gradient(risk.theta)
    assert not calls


def test_it_is_in_float32_where_that_is_asked_for() -> None:
    single, double = small(dtype="float32"), small()
    for found in (single.loss(single.theta), hessian(single)(single.theta), single.X, single.y):
        assert found.dtype == np.float32
    assert single.loss(single.theta) == pytest.approx(float(double.loss(double.theta)), rel=1e-5)


@pytest.mark.parametrize("read", [False, True])
def test_memory_does_not_grow_with_the_data(read: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    finite = finite_network(SMALL, (4,))
    assert fitting_rows(finite, "float32") == pytest.approx(2 * fitting_rows(finite, "float64"), abs=1)
    wide = finite_network(FullyConnected(depth=0), (1_000_000,))
    assert fitting_rows(wide, "float64") == inputs._CHUNK_BYTES // 8_000_000
    monkeypatch.setattr(inputs, "_CHUNK_BYTES", 20_000)
    few = EmpiricalRisk.of(SMALL, finite.init(0), *data(40, 4))
    many = EmpiricalRisk.of(SMALL, finite.init(0), *data(400, 4))
    assert few.chunk < 40
    if read:
        few, many = being_read(few), being_read(many)
    taken = []
    for risk in (few, many):
        with high_precision():
            for function in (lambda risk, v: hessian(risk).product(v), lambda risk, v: jax.grad(risk.loss)(v)):
                compiled = jax.jit(function).lower(risk, risk.theta).compile()
                taken.append(compiled.memory_analysis().temp_size_in_bytes)
    assert taken[2] < 1.3 * taken[0]
    assert taken[3] < 1.3 * taken[1]


X, Y = data(6, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "hinge"}, "loss: got 'hinge'. Choose one of cross-entropy, mse"),
        ({"dtype": "float16"}, "dtype: got 'float16'"),
        ({"chunk": 0}, "chunk: got 0"),
        ({"y": Y[:-1]}, r"y: got shape \(5,\) where there are 6 inputs"),
        ({"y": (Y + 1) // 2}, r"y: got labels 0 and 1 \(y\[\d\] is 0\)\. Pass 2 \* y - 1, booleans, or classes=2"),
        ({"X": np.ma.array(X, mask=X > 0)}, "X: .* masked"),
        ({"X": X.astype(str)}, "X: .*it holds text"),
        ({"y": np.ma.array(Y, mask=Y > 0)}, "y: .* masked"),
        ({"y": np.full(6, "1")}, "y: got type <U1"),
        ({"X": np.where(X > 2, np.nan, np.nan)}, "X: input 0 has the value nan"),
        ({"X": X[:0], "y": Y[:0]}, "X: has shape"),
        ({"X": X[:, :3]}, r"parameters: the weights of dense 1 .* have shape \(4, 5\), not \(3, 5\)"),
    ],
)
def test_what_cannot_be_used_is_refused(arguments: dict, message: str) -> None:
    given = {"X": X, "y": Y, **arguments}
    with pytest.raises(InvalidInput, match=f"^{message}"):
        EmpiricalRisk.of(SMALL, finite_network(SMALL, (4,)).init(0), **given)


def test_labels_may_be_booleans() -> None:
    parameters = finite_network(SMALL, (4,)).init(0)
    np.testing.assert_array_equal(EmpiricalRisk.of(SMALL, parameters, X, Y > 0).y, Y)
    with pytest.raises(InvalidLabels):
        EmpiricalRisk.of(SMALL, parameters, X, np.zeros(6))


def test_images_of_one_channel_may_come_without_the_axis() -> None:
    parameters = finite_network(IMAGES, (4, 4, 1)).init(2)
    images_, y = data(7, 4, 4, 1)
    flat = EmpiricalRisk.of(IMAGES, parameters, images_[..., 0], y)
    assert flat.loss(flat.theta) == pytest.approx(float(images().loss(flat.theta)), rel=1e-13)


def test_the_trained_network_is_one() -> None:
    assert float(trained().error(trained().theta)) == 0
    assert trained().size == 659
