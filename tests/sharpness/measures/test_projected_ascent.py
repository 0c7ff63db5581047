import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nngp_prior.sharpness.measures.projected_ascent import BALL, BOX, climb, normalized_loss
from nngp_prior.sharpness.risk.networks import high_precision
from tests.sharpness.cases import small

CENTRE = np.array([0.3, -0.2, 0.1])


def climbed(function, start, neighbourhood, steps):
    with high_precision():
        found = jax.jit(lambda start: climb(jax.value_and_grad(function), start, neighbourhood, steps))(
            jnp.array(start)
        )
        return jax.tree.map(np.asarray, found)


@pytest.mark.parametrize("neighbourhood", [BOX, BALL])
def test_a_maximum_inside_is_found(neighbourhood) -> None:
    def concave(u):
        return -((u - CENTRE) ** 2) @ np.array([1.0, 2.0, 5.0])

    found = climbed(concave, [0.0, 0.0, 0.0], neighbourhood, 200)
    np.testing.assert_allclose(found.u, CENTRE, atol=1e-3)
    assert np.max(found.losses) == pytest.approx(concave(found.u), abs=1e-15)
    assert found.losses.shape == (201,)
    assert found.slope == pytest.approx(1.0)


@pytest.mark.parametrize(("neighbourhood", "highest"), [(BOX, 1 + 2 + 3), (BALL, np.sqrt(14))])
def test_of_a_linear_function_the_first_step_is_enough(neighbourhood, highest: float) -> None:
    found = climbed(lambda u: u @ np.array([1.0, -2.0, 3.0]), [0.0, 0.0, 0.0], neighbourhood, 1)
    np.testing.assert_allclose(found.losses, [0, highest])


def test_it_stays_inside_and_does_not_leave_what_is_flat() -> None:
    for neighbourhood, size in ((BOX, np.inf), (BALL, 2)):
        found = climbed(lambda u: jnp.sum(u**4), [0.1, 0.2, -0.1], neighbourhood, 50)
        assert np.linalg.norm(found.u, size) == pytest.approx(1, abs=1e-12)
        flat = climbed(lambda u: 0 * u.sum(), [0.1, 0.2, -0.1], neighbourhood, 3)
        np.testing.assert_array_equal(flat.u, [0.1, 0.2, -0.1])
        assert flat.slope == 0


def test_what_is_not_finite_is_not_passed_over() -> None:
    found = climbed(lambda u: jnp.log(0.5 - u.sum()), [0.1, 0.1, 0.1], BOX, 3)
    assert np.isfinite(found.losses).any()
    up = climbed(lambda u: jnp.where(u.sum() > 0.5, jnp.nan, u.sum()), [0.0, 0.0, 0.0], BOX, 3)
    assert np.isnan(np.max(up.losses))


@pytest.mark.parametrize("loss", ["cross-entropy", "mse"])
def test_the_normalised_loss_is_that_of_outputs_over_their_root_mean_square(loss: str) -> None:
    risk = small(loss)
    f, y = np.asarray(risk.all_outputs(risk.theta)), np.asarray(risk.y)
    f = f / np.sqrt(np.mean(f**2))
    expected = np.mean((f - y) ** 2 if loss == "mse" else np.log1p(np.exp(-y * f)))
    with high_precision():
        assert float(jax.jit(normalized_loss)(risk, risk.theta)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200])
def test_directions_have_length_1_whatever_the_gradient(size: float) -> None:
    with high_precision():
        direction = np.asarray(BALL.direction(jnp.array([3.0, -4.0]) * size))
    np.testing.assert_allclose(direction, [0.6, -0.8])
