"""What draws take, before they are begun."""

import pytest

from nngp_prior import FullyConnected
from nngp_prior.prior.sampling.cost import sampling_cost

NARROW = FullyConnected(depth=2, width=40)


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
