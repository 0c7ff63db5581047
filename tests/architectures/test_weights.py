"""Arrays of weights, and multiplications, without making a network."""

from collections.abc import Callable

import numpy as np
import pytest

from nngp_prior import Convolutional, FullyConnected, Residual, kernel, sample_functions
from nngp_prior.architectures import layers_of
from nngp_prior.architectures.weights import parameter_shapes, weights_of
from nngp_prior.errors import InvalidInput
from nngp_prior.kernels import monte_carlo_kernel
from nngp_prior.schemas.specs.architecture import Architecture, ConvolutionLayer, PoolingLayer
from nngp_prior.sharpness import Training, finite_network, measure, train

PARTS = (
    ConvolutionLayer(size=5, stride=2, padding="valid", channels=3),
    PoolingLayer(),
    ConvolutionLayer(padding="circular", stride=2),
)


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [
        (FullyConnected(depth=3, width=7, layer_norm=True), (5,)),
        (FullyConnected(depth=0, bias_std=0), (5,)),
        (Convolutional(layers=PARTS, channels=4), (20, 17, 3)),
        (Residual(blocks=2, channels=5), (9, 8, 1)),
        (Residual(groups=2, channels=2, bias_std=0), (5, 5, 1)),
    ],
)
def test_arrays_are_those_of_the_network(architecture: Architecture, shape: tuple[int, ...]) -> None:
    made = finite_network(architecture, shape)
    blocks = [(f"{block.layer}/{block.role}", block.shape) for block in made.blocks]
    assert list(parameter_shapes(architecture, shape).items()) == blocks
    found, after = weights_of(layers_of(architecture), shape)
    assert sum(each.parameters for each in found) == made.size
    assert after == (1,)


def test_multiplications_counted_by_hand() -> None:
    def count(architecture: Architecture, shape: tuple[int, ...]) -> int:
        return sum(each.multiplications for each in weights_of(layers_of(architecture), shape)[0])

    assert count(FullyConnected(depth=2, width=40), (7,)) == 7 * 40 + 40 * 40 + 40
    # 20 × 17 × 3: windows of 5 × 5 in steps of 2 make 8 × 7 × 3, pooling 4 × 3, steps of 2 make 2 × 2 × 4.
    multiplications = 8 * 7 * (5 * 5 * 3 * 3) + 2 * 2 * (3 * 3 * 3 * 4) + 2 * 2 * 4
    assert count(Convolutional(layers=PARTS, channels=4), (20, 17, 3)) == multiplications


@pytest.mark.parametrize("layer", [ConvolutionLayer(size=5, padding="valid"), PoolingLayer(size=5)])
def test_windows_larger_than_the_image_are_refused(layer: ConvolutionLayer | PoolingLayer) -> None:
    network = Convolutional(layers=(ConvolutionLayer(size=9), layer), channels=2)
    assert parameter_shapes(network, (5, 6, 1))["convolution 1/weight"] == (9, 9, 1, 2)
    with pytest.raises(InvalidInput, match="windows of 5 × 5 where 4 pixels are left"):
        parameter_shapes(network, (6, 4, 1))


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda network, X, y: finite_network(network, X.shape[1:]), id="finite_network"),
        pytest.param(lambda network, X, y: measure(network, [], X, y), id="measure"),
        pytest.param(lambda network, X, y: train(network, X, y, Training(batch_size=2)), id="train"),
        pytest.param(lambda network, X, y: monte_carlo_kernel(network, X), id="monte_carlo_kernel"),
        pytest.param(lambda network, X, y: sample_functions(network, X, 10), id="sample_functions"),
        pytest.param(lambda network, X, y: kernel(network, X), id="kernel"),
    ],
)
@pytest.mark.parametrize("layer", [ConvolutionLayer(size=5, padding="valid"), PoolingLayer(size=5)])
def test_whatever_uses_a_network_refuses_images_smaller_than_a_window(
    use: Callable[..., object], layer: ConvolutionLayer | PoolingLayer
) -> None:
    network, X = Convolutional(layers=(ConvolutionLayer(), layer), channels=2), np.ones((3, 6, 4, 1))
    with pytest.raises(InvalidInput, match=r"X: windows of 5 × 5 where 4 pixels are left\. Use larger images"):
        use(network, X, np.array([1, -1, 1]))
