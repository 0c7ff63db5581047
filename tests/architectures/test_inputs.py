"""Images with channels first, wherever they come in."""

from typing import Any

import numpy as np
import pytest

from nngp_prior import (
    Convolutional,
    LocalClient,
    MonteCarlo,
    Residual,
    function_posterior,
    kernel,
    log_prior,
    monte_carlo_kernel,
    sample_functions,
)
from nngp_prior.architectures.inputs import check_inputs
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.specs.architecture import ConvolutionLayer
from nngp_prior.sharpness import finite_network, measure, train

NETWORK = Convolutional(layers=(ConvolutionLayer(),), channels=2)
FIRST = np.random.default_rng(0).standard_normal((4, 3, 8, 8))
LAST = np.moveaxis(FIRST, 1, -1)
Y = np.array([1, -1, 1, 1])
FUNCTIONS = {
    "kernel": lambda network, X: kernel(network, X),
    "monte_carlo_kernel": lambda network, X: monte_carlo_kernel(network, X, MonteCarlo(networks=2)),
    "log_prior": lambda network, X: log_prior(network, X, Y),
    "function_posterior": lambda network, X: function_posterior(network, X, Y, X),
    "sample_functions": lambda network, X: sample_functions(network, X, 5),
    "train": lambda network, X: train(network, X, Y),
    "measure": lambda network, X: measure(network, finite_network(network, X.shape[1:]).init(0), X, Y, ["trace"]),
    "client": lambda network, X: LocalClient().estimate(network, X, Y),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_are_refused_with_the_transpose_to_use(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"\(4, 3, 8, 8\).* channels first\. Pass numpy\.moveaxis\(X, 1, -1\)"):
        FUNCTIONS[name](NETWORK, FIRST)


@pytest.mark.parametrize("network", [NETWORK, Residual(groups=1, channels=2)])
def test_the_transpose_is_taken_and_the_way_through_too(network: Any) -> None:
    assert np.array_equal(check_inputs("X", LAST, network), LAST)
    stated = network.model_copy(update={"input_channels": 8})  # an image of 3 × 8 pixels with 8 channels
    assert np.array_equal(check_inputs("X", FIRST, stated), FIRST)
    plain = Convolutional(layers=(ConvolutionLayer(),))
    few = np.ones((2, 4, 4, 3))
    assert np.array_equal(
        kernel(plain, few), kernel(Convolutional(layers=(ConvolutionLayer(),), input_channels=3), few)
    )


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 32, 48), (4, 16, 16), (8, 8, 64), (1, 1, 5)])
def test_shapes_that_look_like_it(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match=rf"input_channels={shape[-1]}\."):
        check_inputs("X", np.ones((2, *shape)), NETWORK)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (3, 3, 3), (3, 32, 3), (1, 28, 1), (8, 8, 8), (28, 28)])
def test_shapes_that_do_not(shape: tuple[int, ...]) -> None:
    assert check_inputs("X", np.ones((2, *shape)), NETWORK).shape[:3] == (2, *shape[:2])


@pytest.mark.parametrize(
    ("X", "remedy"), [(FIRST, "moveaxis"), (np.ones((2, 8, 8, 1)), r"\(n, height, width, channels")]
)
def test_the_number_of_channels_is_checked_where_it_is_stated(X: np.ndarray, remedy: str) -> None:
    with pytest.raises(InvalidInput, match=rf"where input_channels is 3\. Pass .*{remedy}"):
        check_inputs("X", X, NETWORK.model_copy(update={"input_channels": 3}))


@pytest.mark.parametrize("X", [np.ma.array(LAST, mask=LAST > 1), LAST.astype(str), LAST.astype("datetime64[s]")])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_masks_text_and_dates_are_no_numbers(name: str, X: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match=r"X: .*(masked|text|dates)"):
        FUNCTIONS[name](NETWORK, X)
