"""Kernels of our own against neural-tangents, for every kind of network, and against what is known without it."""

import itertools

import jax
import numpy as np
import pytest

from nngp_prior.architectures import layers_of
from nngp_prior.errors import InvalidInput
from nngp_prior.kernels.footprint import seconds_of_pair
from nngp_prior.kernels.recursion import KernelFunction, kernel_function
from nngp_prior.schemas.specs.architecture import (
    Architecture,
    Convolutional,
    ConvolutionLayer,
    FullyConnected,
    PoolingLayer,
    Residual,
)
from tests.kernels import stax_networks
from tests.kernels.closed_forms import fully_connected
from tests.kernels.reference import of_neural_tangents

pytestmark = pytest.mark.filterwarnings("ignore:`FanIn` layers assume independent inputs")
EPS = np.finfo(float).eps
Conv, Pool = ConvolutionLayer, PoolingLayer
ACTIVATIONS = ("relu", "leaky-relu", "erf", "gelu", "sin", "cos", "identity")


def inputs(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def function_of(architecture: Architecture, X: np.ndarray, get: str = "nngp", dtype: str = "float64") -> KernelFunction:
    return kernel_function(layers_of(architecture), X.shape[1:], get, dtype)


def within(architecture: Architecture, X: np.ndarray, get: str = "nngp", dtype: str = "float64") -> np.ndarray:
    f = function_of(architecture, X, get, dtype)
    return f.within(f.prepare(X))


def check(architecture: Architecture, *shape: int, get: str = "nngp") -> None:
    """Three inputs with each other and with three others: tiles of one shape, compiled once.

    Tangent kernels off the diagonal only: there neural-tangents' angle of an input with itself is 1e-8 instead of 0.
    """
    X, X2 = inputs(3, *shape), inputs(3, *shape, seed=1)
    f = function_of(architecture, X, get)
    P, P2 = f.prepare(X), f.prepare(X2)
    K = f.within(P)
    reference = of_neural_tangents(architecture, np.concatenate([X, X2]), get)
    assert np.array_equal(K, K.T)
    error = np.abs(np.hstack([K, f.between(P, P2)]) - reference[:3])
    if get == "ntk":
        np.fill_diagonal(error, 0)
    assert error.max() < 1e-10 * np.abs(reference).max()


@pytest.fixture
def tangent_parametrisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tangent kernels of neural-tangents' ``standard`` parametrisation depend on the width."""
    for name in ("Dense", "Conv"):
        layer = getattr(stax_networks.stax, name)

        def of_jacot(*args, layer=layer, parameterization, **options):
            return layer(*args, parameterization="ntk", **options)

        monkeypatch.setattr(stax_networks.stax, name, of_jacot)


@pytest.mark.parametrize(
    ("activation", "layer_norm"),
    [*((name, False) for name in ACTIVATIONS), *((name, True) for name in ("relu", "gelu", "cos"))],
)
def test_activations(activation: str, layer_norm: bool) -> None:
    check(FullyConnected(depth=2, activation=activation, layer_norm=layer_norm, weight_std=1.3, bias_std=0.3), 6)


@pytest.mark.parametrize("activation", ["relu", "erf"])
@pytest.mark.parametrize("bias_std", [0.0, 0.3])
def test_twenty_layers_agree_with_the_closed_form(activation: str, bias_std: float) -> None:
    X, X2 = inputs(3, 6), inputs(3, 6, seed=1)
    architecture = FullyConnected(depth=20, activation=activation, bias_std=bias_std)
    f = function_of(architecture, X)
    K = f.between(f.prepare(X), f.prepare(X2))
    assert np.abs(K - fully_connected(architecture, X, X2)).max() < 1e-12
    assert np.abs(f.within(f.prepare(X)) - fully_connected(architecture, X)).max() < 1e-12


NETWORKS = {
    "flatten": (Convolutional(layers=(Conv(), Conv(size=2))), (5, 4, 2)),
    "strides and paddings": (
        Convolutional(layers=(Conv(stride=2), Conv(size=2, padding="circular"), Conv(size=2, padding="valid"))),
        (6, 5, 3),
    ),
    "strides, circular": (Convolutional(layers=(Conv(stride=2, padding="circular", size=4),) * 2), (6, 5, 1)),
    "erf, layer norm": (Convolutional(layers=(Conv(),), activation="erf", layer_norm=True), (4, 5, 2)),
    "global average pool": (
        Convolutional(
            layers=(Conv(padding="valid"), Conv(padding="circular", stride=2)), readout="global-average-pool"
        ),
        (6, 5, 1),
    ),
    "average pooling, flatten": (
        Convolutional(layers=(Conv(stride=2, padding="circular"), Pool(size=2, stride=1), Conv(size=2))),
        (6, 5, 3),
    ),
    "sum pooling": (
        Convolutional(
            layers=(Conv(size=4), Pool(operation="sum"), Conv(stride=2)), readout="global-average-pool", bias_std=0
        ),
        (6, 7, 2),
    ),
    "pooling first": (Convolutional(layers=(Pool(size=2), Conv())), (4, 4, 1)),
    "myrtle": (Convolutional.myrtle(5, layer_norm=True), (4, 5, 2)),
    "residual": (Residual(groups=2), (5, 4, 1)),
    "residual, flatten": (Residual(groups=2, blocks=2, readout="flatten"), (4, 5, 2)),
}

# One for each layout of covariances, with little to compile.
SMALL = {
    "fully connected": (FullyConnected(), (6,)),
    "equal pixels": (Convolutional(layers=(Conv(size=2),)), (3, 4, 2)),
    "all pixels": (
        Convolutional(layers=(Conv(size=2), Pool(operation="sum")), readout="global-average-pool", bias_std=0),
        (4, 5, 2),
    ),
}

BOTH_KINDS = [("fully connected", "ntk"), ("equal pixels", "nngp"), ("all pixels", "ntk")]
_LONG_TO_COMPILE = {
    "myrtle",
    "average pooling, flatten",
    "residual, flatten",
    "strides, circular",
    "strides and paddings",
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in _LONG_TO_COMPILE)) for name in NETWORKS]
)
def test_networks_on_images(name: str) -> None:
    architecture, shape = NETWORKS[name]
    check(architecture, *shape)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.usefixtures("tangent_parametrisation")
def test_tangent_kernels_of_activations(activation: str) -> None:
    check(FullyConnected(depth=2, activation=activation, layer_norm=activation == "gelu", bias_std=0.3), 6, get="ntk")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["strides and paddings", "sum pooling", "residual"])
@pytest.mark.usefixtures("tangent_parametrisation")
def test_tangent_kernels_on_images(name: str) -> None:
    architecture, shape = NETWORKS[name]
    check(architecture, *shape, get="ntk")


@pytest.mark.parametrize("name", ["equal pixels", "all pixels"])
def test_tangent_kernels_of_an_input_with_itself(name: str) -> None:
    """The diagonal is the limit of inputs ever nearer: the tangent kernel is continuous, with a square root at 0."""
    architecture, shape = SMALL[name]
    X = inputs(1, *shape)
    near = X * (1 + 1e-12 * inputs(1, *shape, seed=3))
    f = function_of(architecture, X, "ntk")
    assert f.between(f.prepare(X), f.prepare(near))[0, 0] == pytest.approx(f.prepare(X).own[0], rel=1e-10)


def test_the_tangent_kernel_of_a_homogeneous_network_with_itself() -> None:
    """Without biases, relu and σ_w² = 2: each layer adds x·x'·2/d once more (Jacot et al. 2018)."""
    X = inputs(5, 6)
    own = within(FullyConnected(depth=3, bias_std=0), X, "ntk").diagonal()
    assert own == pytest.approx(4 * 2 * (X * X).mean(axis=1), rel=1e-13)


@pytest.mark.parametrize(("name", "get"), BOTH_KINDS)
def test_blocks_and_tiles_do_not_show(name: str, get: str, monkeypatch: pytest.MonkeyPatch) -> None:
    architecture, shape = SMALL[name]
    X = inputs(5, *shape)
    whole = within(architecture, X, get)
    f = function_of(architecture, X, get)
    monkeypatch.setattr(f, "_height", 2)
    monkeypatch.setattr(f, "tile", 2)
    P = f.prepare(X)
    assert np.abs(f.within(P) - whole).max() < 1e-12 * np.abs(whole).max()
    first, rest = (jax.tree.map(lambda leaf, part=part: leaf[part], P) for part in (slice(2), slice(2, None)))
    assert np.abs(f.between(first, rest) - whole[:2, 2:]).max() < 1e-12 * np.abs(whole).max()


@pytest.mark.parametrize(("name", "get"), BOTH_KINDS)
def test_copies_are_copies_and_black_images_are_zero(name: str, get: str) -> None:
    """Across tiles a copy has the correlation 1 to rounding; without biases an input of zeros has no variance."""
    architecture, shape = SMALL[name]
    deep = {"depth": 5} if isinstance(architecture, FullyConnected) else {}
    f = function_of(architecture.model_copy(update={"bias_std": 0.0, **deep}), inputs(1, *shape), get)
    X = np.concatenate([inputs(2, *shape), np.zeros((1, *shape))])
    P, P2 = f.prepare(X), f.prepare(X[::-1].copy())
    K = f.between(P, P2)[:, ::-1]
    assert np.abs(K.diagonal() - P.own).max() <= 20 * EPS * P.own.max()
    assert np.array_equal(K[2], np.zeros(3))
    assert np.array_equal(f.within(P)[2], np.zeros(3))


def test_many_layers() -> None:
    """A thousand layers compile as few; relu correlations go to 1."""
    K = within(FullyConnected(depth=1000, bias_std=0), inputs(3, 4))
    correlation = K / np.sqrt(np.outer(K.diagonal(), K.diagonal()))
    assert correlation.min() > 0.9999
    assert correlation.max() <= 1 + 10 * EPS
    assert K.diagonal() == pytest.approx(2 * (inputs(3, 4) ** 2).mean(axis=1), rel=1e-11)


def test_float32() -> None:
    architecture, shape = SMALL["equal pixels"]
    X = inputs(4, *shape)
    K = within(architecture, X)
    single = within(architecture, X, dtype="float32")
    assert single.dtype == np.float32
    assert np.abs(single - K).max() < 1e-5 * K.max()


def test_images_without_channels_have_one() -> None:
    X = inputs(2, 5, 4)
    assert np.array_equal(within(Convolutional(), X), within(Convolutional(), X[..., None]))


def test_what_a_tile_costs() -> None:
    """In the order of networks from cheap to dear; tiles of large images are small."""
    networks = (FullyConnected(), Convolutional(), Convolutional(readout="global-average-pool"))
    functions = [kernel_function(layers_of(architecture), (28, 28, 1)) for architecture in networks]
    seconds = [seconds_of_pair(layers_of(architecture), (28, 28, 1)) for architecture in networks]
    assert seconds[0] * 20 < seconds[1] < seconds[2] / 20
    for cheap, dear in itertools.pairwise(functions):
        assert cheap.bytes_per_pair * 20 < dear.bytes_per_pair
        assert cheap.tile > dear.tile
        assert dear.bytes_per_pair * dear.tile**2 < 2**29


@pytest.mark.parametrize(
    ("architecture", "shape", "problem"),
    [
        (Convolutional(), (784,), r"shape \(784,\)"),
        (Convolutional(layers=(Conv(padding="valid"),) * 3), (6, 6), "3 × 3 where 2 pixels are left"),
        (Convolutional.myrtle(5), (3, 8, 1), "2 × 2 where 1 pixels are left"),
    ],
    ids=["vectors", "valid", "pooling"],
)
def test_images_that_do_not_fit_are_refused(architecture: Architecture, shape: tuple[int, ...], problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        kernel_function(layers_of(architecture), shape)
