"""Weights as pairs, and in PyTorch's layout."""

import numpy as np
import pytest

from nngp_prior import Convolutional, FullyConnected, LocalClient
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.specs.architecture import ConvolutionLayer
from nngp_prior.sharpness import finite_network, measure

RNG = np.random.default_rng(0)
NETWORK = FullyConnected(depth=1, width=3)
X, Y = RNG.standard_normal((6, 4)), np.array([1, -1, 1, 1, -1, 1])
PAIRS = [(RNG.standard_normal((4, 3)), RNG.standard_normal(3)), (RNG.standard_normal((3, 1)), RNG.standard_normal(1))]
CONVOLUTION = Convolutional(layers=(ConvolutionLayer(),), channels=2)
IMAGES = RNG.standard_normal((6, 4, 4, 3))


def test_pairs_are_taken_by_measure_as_by_the_client() -> None:
    by_hand = np.concatenate([np.ravel(array) for pair in PAIRS for array in pair])
    assert np.array_equal(finite_network(NETWORK, (4,)).flatten(PAIRS), by_hand)
    report = measure(NETWORK, PAIRS, X, Y, ["fisher-trace"])
    of_client = LocalClient().sharpness(NETWORK, PAIRS, X, Y, ["fisher-trace"]).result().report
    assert report["fisher_trace"].value == of_client["fisher_trace"].value
    rows = [(W, b[None]) for W, b in PAIRS]  # biases as init has them
    assert np.array_equal(finite_network(NETWORK, (4,)).flatten(rows), by_hand)


@pytest.mark.parametrize("by_client", [False, True])
def test_layouts_of_pytorch_are_refused_with_the_transpose(by_client: bool) -> None:
    def ask(architecture, parameters, inputs) -> None:
        if by_client:
            LocalClient().sharpness(architecture, parameters, inputs, Y, ["fisher-trace"])
        else:
            measure(architecture, parameters, inputs, Y, ["fisher-trace"])

    with pytest.raises(InvalidInput, match=r"\(3, 4\), not \(4, 3\)\. Transpose\? .*pass .*\.T\."):
        ask(NETWORK, [(W.T, b) for W, b in PAIRS], X)
    (W, b), last = finite_network(CONVOLUTION, (4, 4, 3)).init(0)[0], finite_network(CONVOLUTION, (4, 4, 3)).init(0)[-1]
    ask(CONVOLUTION, [(W, b), last], IMAGES)
    with pytest.raises(InvalidInput, match=r"Transpose\? .*\.transpose\(2, 3, 1, 0\)"):
        ask(CONVOLUTION, [(W.transpose(3, 2, 0, 1), b), last], IMAGES)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (PAIRS[:1], "have dense 1/weight, dense 1/bias, where the network has dense 1/weight, .*dense 2/bias"),
        ([W for W, _ in PAIRS], "have dense 1/weight, dense 1/bias, where the network"),
        ({"0.weight": PAIRS[0][0]}, "hold a dict among the layers"),
    ],
)
def test_what_is_no_such_network_is_told_in_words(parameters, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"parameters: {message}"):
        measure(NETWORK, parameters, X, Y, ["fisher-trace"])
