"""Activations of finite networks and their derivatives, at kinks too."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nngp_prior.architectures import network_of
from nngp_prior.architectures.layers import Activation
from nngp_prior.sharpness.risk.networks import high_precision

# φ' and φ'' at 0. ReLU's is that of PyTorch and TensorFlow; leaky ReLU's as well.
AT_ZERO = {
    "relu": (0.0, 0.0),
    "leaky-relu": (0.2, 0.0),
    "erf": (2 / math.sqrt(math.pi), 0.0),
    "gelu": (0.5, math.sqrt(2 / math.pi)),
    "sin": (1.0, 0.0),
    "cos": (0.0, -1.0),
    "identity": (1.0, 0.0),
}


@pytest.mark.parametrize("name", AT_ZERO)
def test_derivatives_at_zero(name: str) -> None:
    apply = network_of((Activation(name, 0.2),)).apply  # pyright: ignore[reportArgumentType]

    def activation(z: jax.Array) -> jax.Array:
        return apply([()], z)

    with high_precision():
        one, zero = jnp.ones(()), jnp.zeros(())
        forward = jax.jvp(activation, (zero,), (one,))[1]
        reverse, second = jax.jvp(jax.grad(activation), (zero,), (one,))
    np.testing.assert_allclose((forward, reverse, second), (AT_ZERO[name][0], *AT_ZERO[name]), atol=1e-15)


@pytest.mark.parametrize(("name", "slope"), [("relu", 0.0), ("leaky-relu", 0.2)])
def test_piecewise_linear_activations(name: str, slope: float) -> None:
    apply = network_of((Activation(name, slope),)).apply  # pyright: ignore[reportArgumentType]
    z = np.array([-math.inf, -2.0, -1e-300, 0.0, 1e-300, 3.0, math.inf, math.nan])
    negative = -math.inf if slope else 0.0
    with high_precision():
        expected = [negative, -2 * slope, -1e-300 * slope, 0.0, 1e-300, 3.0, math.inf, math.nan]
        np.testing.assert_array_equal(apply([()], z), expected)
        slopes = jax.vmap(jax.grad(lambda z: apply([()], z)))(jnp.asarray(z[:-1]))
    np.testing.assert_array_equal(slopes, [slope] * 4 + [1.0] * 3)
