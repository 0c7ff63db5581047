import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nngp_prior.sharpness.risk.losses import (
    LOSSES,
    cross_entropy,
    curvature,
    is_error,
    slope,
    squared_error,
    squared_slope,
)
from nngp_prior.sharpness.risk.networks import high_precision

F = np.array([-1000.0, -3.0, -1e-3, 0.0, 0.5, 40.0, 1000.0])


@pytest.fixture(autouse=True)
def _float64():
    with high_precision():
        yield


@pytest.mark.parametrize("label", [-1.0, 1.0])
def test_cross_entropy_is_minus_the_log_of_the_labels_probability(label: float) -> None:
    moderate = F[1:-1]
    y = np.full(len(moderate), label)
    probability = 1 / (1 + np.exp(-label * moderate))
    losses = cross_entropy(jnp.asarray(moderate), jnp.asarray(y))
    np.testing.assert_allclose(losses, -np.log(probability), rtol=1e-12, atol=1e-15)


def test_large_outputs_neither_overflow_nor_vanish() -> None:
    f, y = jnp.asarray(F), jnp.ones(len(F))
    assert cross_entropy(f, y)[0] == 1000
    assert np.isfinite(cross_entropy(f, -y)).all()
    for loss in LOSSES.values():
        for derivative in (slope, curvature, squared_slope):
            assert np.isfinite(derivative(loss, f, y)).all()
    assert cross_entropy(jnp.asarray([40.0]), jnp.ones(1))[0] == pytest.approx(np.exp(-40), rel=1e-12)


def test_derivatives_are_those_of_the_closed_forms() -> None:
    f = jnp.asarray(F)
    for y in (jnp.ones(len(F)), -jnp.ones(len(F))):
        p = jax.nn.sigmoid(-y * f)
        np.testing.assert_allclose(slope(cross_entropy, f, y), -y * p, rtol=1e-12)
        np.testing.assert_allclose(squared_slope(cross_entropy, f, y), p**2, rtol=1e-12)
        np.testing.assert_allclose(curvature(cross_entropy, f, y), p * (1 - p), rtol=1e-9, atol=1e-300)
        np.testing.assert_allclose(squared_error(f, y), (F - np.asarray(y)) ** 2)
        np.testing.assert_allclose(slope(squared_error, f, y), 2 * (F - np.asarray(y)))
        np.testing.assert_allclose(curvature(squared_error, f, y), 2.0)


def test_an_output_of_zero_and_one_that_is_no_number_are_errors() -> None:
    f = jnp.asarray([1.0, -1.0, 0.0, jnp.nan, 1e-300])
    np.testing.assert_array_equal(is_error(f, jnp.ones(5)), [0, 1, 1, 1, 0])
    np.testing.assert_array_equal(is_error(f, -jnp.ones(5)), [1, 0, 1, 1, 1])
