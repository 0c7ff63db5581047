"""What draws take, before they are begun."""

import jax
import pytest

from nngp_prior import Convolutional, FullyConnected, Residual
from nngp_prior.architectures import layers_of, network
from nngp_prior.prior.sampling.cost import _operations, sampling_cost
from nngp_prior.schemas.architecture import Architecture, ConvolutionLayer, PoolingLayer

NARROW = FullyConnected(depth=2, width=40)
PARTS = (
    ConvolutionLayer(size=5, stride=2, padding="valid", channels=3),
    PoolingLayer(),
    ConvolutionLayer(padding="circular", stride=2),
)


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [
        (FullyConnected(depth=3, width=7, layer_norm=True), (5,)),
        (Convolutional(layers=PARTS, channels=4), (20, 17, 3)),
        (Residual(blocks=2, channels=5), (9, 8, 1)),
    ],
)
def test_parameters_are_those_of_the_network(architecture: Architecture, shape: tuple[int, ...]) -> None:
    _, parameters, after = _operations(layers_of(architecture), shape)
    made = network(architecture)
    shapes = jax.eval_shape(lambda key: made.init(key, (1, *shape))[1], jax.random.key(0))
    assert parameters == sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert after == (1,)


def test_multiplications_counted_by_hand() -> None:
    assert _operations(layers_of(NARROW), (7,))[0] == 7 * 40 + 40 * 40 + 40
    # 20 × 17 × 3: windows of 5 × 5 in steps of 2 make 8 × 7 × 3, pooling 4 × 3, steps of 2 make 2 × 2 × 4.
    multiplications = 8 * 7 * (5 * 5 * 3 * 3) + 2 * 2 * (3 * 3 * 3 * 4) + 2 * 2 * 4
    assert _operations(layers_of(Convolutional(layers=PARTS, channels=4)), (20, 17, 3))[0] == multiplications


@pytest.mark.parametrize("source", ["networks", "gp"])
@pytest.mark.parametrize("architecture", [NARROW, NARROW.model_copy(update={"layer_norm": True})])
def test_more_draws_take_more(architecture: FullyConnected, source: str) -> None:
    few, many = (sampling_cost(architecture, (128, 7), draws, source) for draws in (10**6, 10**8))
    assert many.seconds > 50 * few.seconds
    assert many.bytes > 5 * few.bytes
    # Of three inputs there are eight functions, however many draws.
    few, many = (sampling_cost(architecture, (3, 7), draws, source) for draws in (10**6, 10**8))
    assert few.bytes == many.bytes


def test_a_million_of_the_boolean_systems_networks() -> None:
    """Docs say 16 µs on a core each, and 0.8 GB for ten million different functions."""
    cost = sampling_cost(NARROW, (128, 7), 10**6)
    assert 16 / 3 / 2 < cost.seconds < 16 * 3
    assert 0.8e9 < sampling_cost(NARROW, (128, 7), 10**7).bytes < 1.6e9


def test_a_block_is_drawn_whole() -> None:
    assert sampling_cost(NARROW, (128, 7), 1).seconds == sampling_cost(NARROW, (128, 7), 1000).seconds
