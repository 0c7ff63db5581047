import jax.numpy as jnp
import numpy as np
import pytest

from nngp_prior import FromNetwork, log_probability
from nngp_prior.errors import InvalidInput, InvalidKernel
from nngp_prior.kernels import kernel, kernel_diagonal
from nngp_prior.progress import Progress
from nngp_prior.schemas.specs.architecture import (
    Architecture,
    Convolutional,
    ConvolutionLayer,
    FullyConnected,
    Residual,
)
from tests.kernels.closed_forms import fully_connected
from tests.kernels.reference import of_neural_tangents
from tests.kernels.small import with_tiles

X = np.random.default_rng(0).standard_normal((11, 7))
X2 = np.random.default_rng(1).standard_normal((5, 7))


def _product(X, X2, get):
    return jnp.einsum("nhwc,mhwc->nm", X, X if X2 is None else X2) + (get == "ntk")


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eleven inputs are three tiles of four, the last of them padded; five are two of three."""
    with_tiles(monkeypatch, 4)


@pytest.mark.parametrize("activation", ["relu", "erf"])
@pytest.mark.parametrize(("depth", "bias_std"), [(0, 0.3), (1, 0.0), (1, 0.3), (5, 0.3)])
def test_agrees_with_the_closed_form(depth: int, activation: str, bias_std: float) -> None:
    architecture = FullyConnected(depth=depth, activation=activation, weight_std=1.3, bias_std=bias_std)
    K = kernel(architecture, X)
    assert K.dtype == np.float64
    assert np.abs(K - fully_connected(architecture, X)).max() < 1e-10
    assert np.abs(kernel(architecture, X, X2) - fully_connected(architecture, X, X2)).max() < 1e-10


OWN = FromNetwork(lambda key, shape: ((1, 1), ()), lambda _, X: X[:, :1], _product, name="product")


@pytest.mark.parametrize(
    ("architecture", "get"),
    [
        (FullyConnected(layer_norm=True), "ntk"),
        (Convolutional(layers=(ConvolutionLayer(),)), "nngp"),
        (Residual(groups=1), "ntk"),
        (OWN, "nngp"),
        (OWN, "ntk"),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
@pytest.mark.usefixtures("small_tiles")
def test_the_diagonal_alone(architecture: Architecture | FromNetwork, get: str) -> None:
    inputs = np.random.default_rng(0).standard_normal((35, 3, 2, 2))
    expected = kernel(architecture, inputs, get=get).diagonal()
    np.testing.assert_allclose(kernel_diagonal(architecture, inputs, get=get), expected, rtol=1e-13)
    assert kernel_diagonal(architecture, inputs[:1], get=get) == pytest.approx(expected[:1], rel=1e-13)


def test_two_values_by_hand() -> None:
    """Perpendicular inputs of unit K⁰: E[relu(u) relu(v)] = 1/2π; the perceptron's kernel is b² + w² x·x'/d."""
    perpendicular = np.eye(2)
    assert kernel(FullyConnected(depth=1, bias_std=0), perpendicular)[0, 1] == pytest.approx(1 / np.pi, abs=1e-14)
    K = kernel(FullyConnected(depth=0, weight_std=3, bias_std=2), np.array([[1.0, 2.0, 3.0], [2.0, 0.0, -1.0]]))
    assert pytest.approx(np.array([[4 + 9 * 14 / 3, 4 - 9 / 3], [4 - 9 / 3, 4 + 9 * 5 / 3]]), rel=1e-14) == K


def test_tiles_do_not_show(request: pytest.FixtureRequest) -> None:
    architecture = FullyConnected(depth=3)
    whole, whole_between = kernel(architecture, X), kernel(architecture, X, X2)
    request.getfixturevalue("small_tiles")
    tiled = kernel(architecture, X)
    assert np.abs(tiled - whole).max() < 1e-12
    assert np.array_equal(tiled, tiled.T)
    assert np.array_equal(whole, whole.T)
    assert np.abs(kernel(architecture, X, X2) - whole_between).max() < 1e-12
    assert np.abs(kernel(architecture, X2, X) - whole_between.T).max() < 1e-12


@pytest.mark.parametrize("activation", ["relu", "erf"])
@pytest.mark.parametrize("depth", [0, 2, 5])
@pytest.mark.usefixtures("small_tiles")
def test_an_input_that_comes_twice_has_one_label(depth: int, activation: str) -> None:
    """Within a tile and from tile to tile."""
    K = kernel(FullyConnected(depth=depth, activation=activation), np.vstack([X, X[1], X[10]]))
    labels = np.ones(13, dtype=int)
    assert log_probability(K, labels, method="ep").status == "ok"
    for copy in (11, 12):
        labels[copy] = -1
        assert log_probability(K, labels, method="ep").status == "impossible"
        labels[copy] = 1


@pytest.mark.usefixtures("small_tiles")
def test_opposite_inputs_of_an_odd_network_have_opposite_labels() -> None:
    K = kernel(FullyConnected(depth=3, activation="erf", bias_std=0), np.vstack([X, -X[1]]))
    labels = np.ones(12, dtype=int)
    assert log_probability(K, labels, method="ep").status == "impossible"
    labels[11] = -1
    assert log_probability(K, labels, method="ep").status == "ok"


@pytest.mark.usefixtures("small_tiles")
def test_the_order_of_inputs_does_not_matter() -> None:
    order = np.random.default_rng(2).permutation(len(X))
    K = kernel(FullyConnected(), X)
    assert np.abs(kernel(FullyConnected(), X[order]) - K[np.ix_(order, order)]).max() < 1e-12


def test_images_are_flattened() -> None:
    images = np.random.default_rng(0).random((6, 8, 8))
    assert np.array_equal(kernel(FullyConnected(), images), kernel(FullyConnected(), images.reshape(6, 64)))


def test_scaling_without_biases() -> None:
    """relu networks are homogeneous: inputs twice as long have four times the variance."""
    architecture = FullyConnected(depth=3, bias_std=0)
    assert kernel(architecture, 2 * X) == pytest.approx(4 * kernel(architecture, X), rel=1e-13)


def test_width_is_no_part_of_the_kernel() -> None:
    assert np.array_equal(kernel(FullyConnected(width=3), X), kernel(FullyConnected(width=3000), X))


def test_float32_inputs_are_computed_in_float64() -> None:
    K = kernel(FullyConnected(), X.astype(np.float32))
    assert np.abs(K - fully_connected(FullyConnected(), X.astype(np.float32).astype(np.float64))).max() < 1e-10


@pytest.mark.parametrize("matrices", [(X,), (X, X2)], ids=["symmetric", "rectangular"])
@pytest.mark.usefixtures("small_tiles")
def test_progress_ends_at_the_total(matrices: tuple[np.ndarray, ...]) -> None:
    events: list[Progress] = []
    kernel(FullyConnected(), *matrices, progress=events.append)
    assert [event.done for event in events] == list(range(7))  # 3 · 4/2, and 3 · 2
    assert {event.total for event in events} == {6}
    assert [event.cost is None for event in events] == [False] + 6 * [True]


def with_value(value: float) -> np.ndarray:
    broken = X.copy()
    broken[3, 5] = value
    return broken


@pytest.mark.parametrize(
    ("inputs", "field", "problem"),
    [
        ((with_value(np.nan),), "X", "input 3 has the value nan at feature 5"),
        ((with_value(-np.inf),), "X", "input 3 has the value -inf at feature 5"),
        ((X, with_value(np.nan)), "X2", "input 3 has the value nan at feature 5"),
        ((X[0],), "X", "shape (7,)"),
        ((np.empty((0, 7)),), "X", "shape (0, 7)"),
        ((X, X2[:, :6]), "X2", "6 features where X has 7"),
        ((np.array([["a", "b"]]),), "X", "real numbers"),
        ((X + 1j,), "X", "real numbers"),
    ],
    ids=["nan", "infinite", "nan in X2", "one axis", "empty", "other features", "text", "complex"],
)
def test_inputs_that_cannot_be_used_are_named(inputs: tuple[np.ndarray, ...], field: str, problem: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        kernel(FullyConnected(), *inputs)
    assert caught.value.field == field
    assert problem in caught.value.problem


def test_a_zero_input_without_biases_has_no_label() -> None:
    inputs = X.copy()
    inputs[4] = 0
    K = kernel(FullyConnected(bias_std=0), inputs)
    assert np.array_equal(K[4], np.zeros(11))
    with pytest.raises(InvalidKernel, match="input 4 is 0") as caught:
        log_probability(K, np.ones(11, dtype=int))
    assert "bias" in caught.value.remedy


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("inputs", [(X,), (X, X2), (X2, X)], ids=["symmetric", "in X2", "in X"])
def test_an_input_that_overflows_is_named(inputs: tuple[np.ndarray, ...]) -> None:
    inputs = tuple(A.copy() for A in inputs)
    inputs[-1][4] *= 1e200
    with pytest.raises(
        InvalidInput, match=r"the kernel of input 4 overflows \(its largest value is .*e\+200\)"
    ) as caught:
        kernel(FullyConnected(), *inputs)
    assert caught.value.field == ("X", "X2")[len(inputs) - 1]


IMAGES = np.random.default_rng(3).random((7, 6, 5))


def test_images_keep_their_axes_where_the_network_takes_images(monkeypatch: pytest.MonkeyPatch) -> None:
    architecture = Convolutional(layers=(ConvolutionLayer(padding="valid"), ConvolutionLayer(stride=2)))
    K = kernel(architecture, IMAGES)
    assert np.abs(K - kernel(architecture, IMAGES[..., None])).max() == 0
    reference = of_neural_tangents(architecture, IMAGES[..., None])
    assert np.abs(K - reference).max() < 1e-12 * reference.max()
    with_tiles(monkeypatch, 3)
    assert np.abs(kernel(architecture, IMAGES) - K).max() < 1e-12
    other_neighbours = kernel(architecture, IMAGES[:, [3, 0, 4, 1, 5, 2]])
    assert np.abs(other_neighbours - K).max() > 1e-4


@pytest.mark.parametrize("inputs", [IMAGES.reshape(7, 30), IMAGES[..., None, None]], ids=["vectors", "five axes"])
def test_a_network_on_images_refuses_what_is_no_image(inputs: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match="takes images") as caught:
        kernel(Residual(), inputs)
    assert caught.value.field == "X"
    assert "(n, height, width, channels)" in caught.value.remedy


def test_float32_is_float32_and_close() -> None:
    K = kernel(FullyConnected(), X, dtype="float32")
    assert K.dtype == np.float32
    assert 0 < np.abs(K - kernel(FullyConnected(), X)).max() < 1e-5


@pytest.mark.parametrize(("field", "value"), [("get", "cov"), ("dtype", "float16")])
def test_other_arguments(field: str, value: str) -> None:
    arguments = {"architecture": FullyConnected(), "X": X} | {field: value}
    with pytest.raises(InvalidInput, match=value) as caught:
        kernel(**arguments)
    assert caught.value.field == field


def test_both_kernels_of_one_network_differ() -> None:
    """Of the perceptron without biases the tangent kernel is the NNGP kernel."""
    assert np.abs(kernel(FullyConnected(), X, get="ntk") - kernel(FullyConnected(), X)).max() > 0.1
    linear = FullyConnected(depth=0, bias_std=0)
    assert kernel(linear, X, get="ntk") == pytest.approx(kernel(linear, X), rel=1e-12)
