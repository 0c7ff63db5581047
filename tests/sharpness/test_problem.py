import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nngp_prior import FromNetwork, FullyConnected
from nngp_prior.errors import InvalidInput, InvalidLabels
from nngp_prior.sharpness import inputs
from nngp_prior.sharpness.inputs import fitting_rows
from nngp_prior.sharpness.networks import finite_network, precisely
from nngp_prior.sharpness.problem import Problem
from tests.sharpness.cases import IMAGES, SMALL, being_read, data, dense, images, small, trained

PROBLEMS = {"cross-entropy": small, "mse": lambda: small("mse"), "images": images}


@pytest.fixture(params=[*PROBLEMS, "cross-entropy, read", "images, read"])
def problem(request: pytest.FixtureRequest) -> Problem:
    name, _, read = request.param.partition(", ")
    return being_read(PROBLEMS[name]()) if read else PROBLEMS[name]()


def outputs(problem: Problem) -> np.ndarray:
    return np.asarray(problem.network.apply(problem.unravel(problem.theta), np.asarray(problem.X)))


def losses(problem: Problem) -> np.ndarray:
    f, y = outputs(problem), np.asarray(problem.y)
    return (f - y) ** 2 if problem.loss_name == "mse" else np.log1p(np.exp(-y * f))


def test_loss_and_error_are_means_over_examples_whatever_the_chunks(problem: Problem) -> None:
    assert problem.labels.shape[0] > 1
    assert problem.n % problem.chunk
    assert problem.loss(problem.theta) == pytest.approx(losses(problem).mean(), rel=1e-13)
    assert problem.error(problem.theta) == pytest.approx(np.mean(outputs(problem) * np.asarray(problem.y) <= 0))
    np.testing.assert_allclose(problem.all_outputs(problem.theta), outputs(problem), rtol=1e-12)


def test_the_gradient_is_that_of_the_loss(problem: Problem) -> None:
    value, gradient = problem.value_and_gradient(problem.theta)
    assert value == problem.loss(problem.theta)
    np.testing.assert_array_equal(gradient, problem.gradient(problem.theta))
    step = 1e-6 * np.random.default_rng(0).standard_normal(problem.size)
    theta = np.asarray(problem.theta)
    slope = float(problem.loss(theta + step) - problem.loss(theta - step)) / 2
    assert slope == pytest.approx(float(np.asarray(gradient) @ step), rel=1e-6)
    with precisely():
        np.testing.assert_allclose(jax.grad(problem.loss)(problem.theta), gradient, rtol=1e-10, atol=1e-15)


def test_gradients_of_examples_have_the_gradient_as_their_mean(problem: Problem) -> None:
    with precisely():
        of_examples = jax.jit(Problem.example_gradients)(problem, problem.theta, problem.X, problem.y)
    assert of_examples.shape == (problem.n, problem.size)
    np.testing.assert_allclose(
        np.asarray(of_examples).mean(axis=0), problem.gradient(problem.theta), rtol=1e-10, atol=1e-15
    )


@pytest.mark.parametrize("matrix", ["hessian", "ggn", "empirical-fisher"])
def test_products_are_those_of_the_dense_matrices(problem: Problem, matrix: str) -> None:
    A, V = dense(problem, matrix), np.random.default_rng(1).standard_normal((3, problem.size))
    products = {"hessian": Problem.hvp, "ggn": Problem.ggnvp, "empirical-fisher": Problem.empirical_fisher_product}
    with precisely():
        found = jax.vmap(products[matrix], (None, None, 0))(problem, problem.theta, jnp.asarray(V))
    np.testing.assert_allclose(found, V @ A, rtol=1e-9, atol=1e-12 * np.abs(A).max())


def test_scipy_takes_them() -> None:
    problem = small()
    operator = problem.linear_operator("ggn")
    assert operator.shape == (problem.size, problem.size)
    G = dense(problem, "ggn")
    np.testing.assert_allclose(operator @ np.eye(problem.size)[:, 3:5], G[:, 3:5], atol=1e-13)
    block = problem.linear_operator("hessian", layer="dense 2")
    np.testing.assert_allclose(block @ np.ones(30), dense(problem)[25:55, 25:55].sum(axis=1), atol=1e-13)
    with pytest.raises(InvalidInput, match=r"^matrix: got 'fisher'"):
        problem.linear_operator("fisher")
    with pytest.raises(InvalidInput, match=r"^layer: got 'dense 9'"):
        problem.linear_operator(layer="dense 9")


def test_means_of_functions_of_the_outputs_gradient() -> None:
    problem = small()
    with precisely():
        X, theta = problem.X, problem.theta
        J = np.asarray(jax.jacrev(lambda theta: problem.outputs(theta, X))(theta))
        function = jax.jit(
            lambda problem: problem.mean_over_gradients(lambda g, f, y: {"a": g * y, "b": f**2}, problem.theta)
        )
        found = function(problem)
    np.testing.assert_allclose(found["a"], np.asarray(problem.y) @ J / problem.n, rtol=1e-10)
    assert found["b"] == pytest.approx(np.mean(outputs(problem) ** 2))


def test_a_subset_is_the_problem_on_its_examples() -> None:
    problem = small()
    rows = [3, 19, 3, 0]
    subset = problem.subset(rows)
    np.testing.assert_array_equal(subset.y, np.asarray(problem.y)[rows])
    assert subset.loss(subset.theta) == pytest.approx(losses(problem)[rows].mean(), rel=1e-13)
    for wrong in ([], [20], [-1]):
        with pytest.raises(InvalidInput, match=r"^rows: "):
            problem.subset(wrong)


def test_nothing_is_traced_again_for_other_numbers() -> None:
    calls = []

    def apply(theta, X):
        calls.append(X.shape)
        return X @ theta

    network = FromNetwork(lambda key, shape: ((1,), jnp.ones(shape[-1])), apply, name="counting")
    problem = Problem.of(network, np.ones(4), data(20, 4))
    problem.hvp(np.ones(4), np.ones(4))
    calls.clear()
    problem.at(2 * np.ones(4)).hvp(3 * np.ones(4), 4 * np.ones(4))
    Problem.of(network, 2 * np.ones(4), (2 * data(20, 4)[0], data(20, 4)[1])).hvp(np.zeros(4), np.ones(4))
    assert not calls
    problem.subset(range(5)).gradient(problem.theta)
    calls.clear()
    problem.subset(range(5, 10)).gradient(problem.theta)
    assert not calls


def test_it_is_in_float32_where_that_is_asked_for() -> None:
    single, double = small(dtype="float32"), small()
    for found in (single.loss(single.theta), single.hvp(single.theta, single.theta), single.X, single.y):
        assert found.dtype == np.float32
    assert single.loss(single.theta) == pytest.approx(float(double.loss(double.theta)), rel=1e-5)


@pytest.mark.parametrize("read", [False, True])
def test_memory_does_not_grow_with_the_data(read: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    finite = finite_network(SMALL, (4,))
    assert fitting_rows(finite, "float32") == pytest.approx(2 * fitting_rows(finite, "float64"), abs=1)
    wide = finite_network(FullyConnected(depth=0), (1_000_000,))
    assert fitting_rows(wide, "float64") == inputs._CHUNK_BYTES // 8_000_000
    monkeypatch.setattr(inputs, "_CHUNK_BYTES", 20_000)
    few = Problem.of(SMALL, finite.init(0), data(40, 4))
    many = Problem.of(SMALL, finite.init(0), data(400, 4))
    assert few.chunk < 40
    if read:
        few, many = being_read(few), being_read(many)
    taken = []
    for problem in (few, many):
        with precisely():
            for function in (Problem.hvp, lambda problem, theta, v: jax.grad(problem.loss)(theta) * v):
                compiled = jax.jit(function).lower(problem, problem.theta, problem.theta).compile()
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
        ({"data": (X,)}, "data: is no pair"),
        ({"data": (X, Y[:-1])}, r"y: got shape \(5,\) where there are 6 inputs"),
        ({"data": (X, (Y + 1) // 2)}, r"y: got labels 0 and 1 \(y\[\d\] is 0\)\. Pass 2 \* y - 1, or booleans"),
        ({"data": (np.ma.array(X, mask=X > 0), Y)}, "X: .* masked"),
        ({"data": (X.astype(str), Y)}, "X: .*it holds text"),
        ({"data": (X, np.ma.array(Y, mask=Y > 0))}, "y: .* masked"),
        ({"data": (X, np.full(6, "1"))}, "y: got type <U1"),
        ({"data": (np.where(X > 2, np.nan, np.nan), Y)}, "X: input 0 has the value nan"),
        ({"data": (X[:0], Y[:0])}, "X: has shape"),
        ({"data": (X[:, :3], Y)}, r"parameters: the weights of dense 1 .* have shape \(4, 5\), not \(3, 5\)"),
    ],
)
def test_what_cannot_be_used_is_refused(arguments: dict, message: str) -> None:
    given = {"data": (X, Y), **arguments}
    with pytest.raises(InvalidInput, match=f"^{message}"):
        Problem.of(SMALL, finite_network(SMALL, (4,)).init(0), given.pop("data"), **given)


def test_labels_may_be_booleans() -> None:
    parameters = finite_network(SMALL, (4,)).init(0)
    np.testing.assert_array_equal(Problem.of(SMALL, parameters, (X, Y > 0)).y, Y)
    with pytest.raises(InvalidLabels):
        Problem.of(SMALL, parameters, (X, np.zeros(6)))


def test_images_of_one_channel_may_come_without_the_axis() -> None:
    parameters = finite_network(IMAGES, (4, 4, 1)).init(2)
    images_, y = data(7, 4, 4, 1)
    flat = Problem.of(IMAGES, parameters, (images_[..., 0], y))
    assert flat.loss(flat.theta) == pytest.approx(float(images().loss(flat.theta)), rel=1e-13)


def test_the_trained_network_is_one() -> None:
    assert float(trained().error(trained().theta)) == 0
    assert trained().size == 659
