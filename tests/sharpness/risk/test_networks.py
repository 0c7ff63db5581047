import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nngp_prior import FromNetwork, FullyConnected, Residual
from nngp_prior.architectures import network
from nngp_prior.errors import InvalidInput
from nngp_prior.sharpness.risk.networks import ParameterBlock, finite_network, high_precision
from tests.sharpness.cases import IMAGES, SMALL


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [(SMALL, (4,)), (SMALL.model_copy(update={"bias_std": 0.0}), (4,)), (IMAGES, (4, 4, 1)),
     (Residual(groups=1, channels=2), (4, 4, 1))],
    ids=["fully-connected", "without biases", "convolutional", "residual"],
)  # fmt: skip
def test_it_is_the_architectures_network(architecture, shape) -> None:
    finite = finite_network(architecture, shape)
    X = np.random.default_rng(0).standard_normal((3, *shape))
    parameters = finite.init(7)
    with high_precision():
        init, apply = network(architecture)
        np.testing.assert_allclose(finite.apply(parameters, X), apply(parameters, X)[:, 0], rtol=1e-12)
        if architecture is SMALL:
            expected = init(jax.random.key(7), (1, *shape))[1]
            assert jax.tree.structure(expected) == jax.tree.structure(parameters)
            assert all(map(np.allclose, jax.tree.leaves(parameters), jax.tree.leaves(expected)))
        theta = finite.flatten(parameters)
        np.testing.assert_array_equal(theta, jax.flatten_util.ravel_pytree(parameters)[0])
    assert len(theta) == finite.size
    for found, leaf in zip(jax.tree.leaves(finite.unflatten(theta)), jax.tree.leaves(parameters), strict=True):
        assert leaf.dtype == np.float64
        np.testing.assert_array_equal(found, leaf)


def test_blocks_are_layers_weights_and_biases_in_the_order_of_the_flat_vector() -> None:
    assert finite_network(SMALL, (4,)).blocks == (
        ParameterBlock("dense 1", "weight", (4, 5), 0),
        ParameterBlock("dense 1", "bias", (1, 5), 20),
        ParameterBlock("dense 2", "weight", (5, 5), 25),
        ParameterBlock("dense 2", "bias", (1, 5), 50),
        ParameterBlock("dense 3", "weight", (5, 1), 55),
        ParameterBlock("dense 3", "bias", (1, 1), 60),
    )
    finite = finite_network(IMAGES, (4, 4, 1))
    assert finite.layers == ("convolution 1", "dense 2")
    assert [block.role for block in finite.blocks] == ["weight", "bias", "weight", "bias"]
    assert finite.slice_of("dense 2") == (20, 53)
    one = finite_network(FullyConnected(depth=1, width=1, bias_std=0), (1,))
    assert [(block.layer, block.role) for block in one.blocks] == [("dense 1", "weight"), ("dense 2", "weight")]
    with pytest.raises(InvalidInput, match=r"layer: got 'dense 1'. Choose one of convolution 1, dense 2"):
        finite.slice_of("dense 1")


def test_layers_of_a_residual_network_are_numbered_from_the_input_on() -> None:
    finite = finite_network(Residual(groups=1, channels=2), (4, 4, 1))
    assert finite.layers == (*(f"convolution {i}" for i in range(1, 5)), "dense 5")
    assert finite.blocks[-1].stop == finite.size


def test_equal_specifications_give_the_same_network() -> None:
    assert finite_network(FullyConnected(depth=1, width=3), (2,)) is finite_network(
        FullyConnected(depth=1, width=3), (2,)
    )


def own(init=None, apply=None) -> FromNetwork:
    def default_init(key, shape):
        W = jax.random.normal(key, (shape[-1], 3))
        inner = {"kernel": W, "bias": jnp.zeros(3)}
        return (1, 1), {"a": {"in": inner, "scale": jnp.ones(())}, "v": jnp.ones((3, 1)), "z": jnp.ones((1, 3))}

    def default_apply(p, X):
        hidden = jnp.tanh(X @ p["a"]["in"]["kernel"] + p["a"]["in"]["bias"]) * p["a"]["scale"] + p["z"]
        return hidden @ p["v"]

    return FromNetwork(init or default_init, apply or default_apply, name="mine")


def test_layers_of_ones_own_network_have_the_names_of_their_places() -> None:
    finite = finite_network(own(), (2,))
    assert [(block.layer, block.role) for block in finite.blocks] == [
        ("['a']['in']", "bias"),
        ("['a']['in']", "weight"),
        ("['a']", "bias"),
        ("['v']", "bias"),
        ("['z']", "bias"),
    ]
    assert finite.apply(finite.init(0), np.ones((4, 2))).shape == (4,)
    one_dimensional = own(apply=lambda p, X: (X @ p["a"]["in"]["kernel"]).sum(axis=1))
    assert finite_network(one_dimensional, (2,)).apply(finite.init(0), np.ones((4, 2))).shape == (4,)


def test_a_layer_is_one_piece_of_the_flat_vector() -> None:
    def init(key, shape):
        del key, shape
        return (1, 1), {"m": {"a": jnp.ones((2, 2)), "b": {"x": jnp.ones(2), "y": jnp.ones(2)}, "c": jnp.ones(3)}}

    finite = finite_network(own(init, lambda p, X: X[:, 0] * p["m"]["c"].sum()), (2,))
    assert finite.layers == ("['m']", "['m']['b']", "['m']['c']")
    assert finite.slice_of("['m']") == (0, 4)
    assert finite.slice_of("['m']['c']") == (8, 11)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (own(apply=lambda p, X: X @ p["a"]["in"]["kernel"]), r"outputs of shape \(3, 3\) for 3 inputs"),
        (own(apply=lambda p, X: X[:, 0] if X[0, 0] > 0 else X[:, 1]), "cannot be traced by JAX"),
        (own(init=lambda key, shape: (shape, ()), apply=lambda p, X: X[:, :1]), "has no parameters"),
    ],
)
def test_networks_that_are_none_with_one_output_are_refused(wrong: FromNetwork, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"^architecture: .*{message}"):
        finite_network(wrong, (2,))


def test_parameters_that_do_not_fit_are_refused() -> None:
    finite = finite_network(SMALL, (4,))
    (W, b), *_ = [layer for layer in finite.init(0) if layer]
    message = "^parameters: have dense 1/weight, dense 1/bias, where the network has .*dense 2/bias"
    with pytest.raises(InvalidInput, match=message):
        finite.flatten([W, b])
    wider = finite_network(SMALL, (5,)).init(0)
    message = r"^parameters: the weights of dense 1 \(parameters\[0\]\[0\]\) have shape \(5, 5\), not \(4, 5\)"
    with pytest.raises(InvalidInput, match=message):
        finite.flatten(wider)
    diverged = jax.tree.map(np.copy, finite.init(0))
    diverged[2][1][0, 3] = np.nan
    with pytest.raises(InvalidInput, match=r"the biases of dense 2 \(.*\) hold nan"):
        finite.flatten(diverged)
    with pytest.raises(InvalidInput, match=r"the weights of dense 1 \(.*\) are of type complex128. Pass real"):
        finite.flatten(jax.tree.map(lambda array: array + 1j, finite.init(0)))


def test_it_computes_in_float64_where_jax_does_not() -> None:
    assert not jax.config.jax_enable_x64
    finite = finite_network(SMALL, (4,))
    assert finite.init(3)[0][0].dtype == finite.apply(finite.init(3), np.ones((1, 4))).dtype == np.float64
