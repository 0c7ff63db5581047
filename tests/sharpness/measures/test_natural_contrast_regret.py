import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from nngp_prior.errors import InvalidInput
from nngp_prior.progress import ignore
from nngp_prior.schemas.measures.gradients import NaturalContrastRegret, NaturalGradientContrast
from nngp_prior.sharpness import measure
from nngp_prior.sharpness.measures.natural_contrast_regret import Ball, ball, natural_contrast_regret
from nngp_prior.sharpness.measures.natural_gradient_contrast import metric, natural_gradient_contrast, parts
from nngp_prior.sharpness.measures.registry import Quantity
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.minibatches import minibatch, pairs_of_minibatches
from nngp_prior.sharpness.risk.networks import high_precision
from tests.sharpness.cases import LINEAR, data, linear, small
from tests.sharpness.measures.test_gradient_contrast import regret
from tests.sharpness.measures.test_natural_gradient_contrast import many, rescaled


def found(risk: EmpiricalRisk, seed: int = 3, **options) -> Quantity:
    specification = NaturalContrastRegret(**{"batch": 8, "pairs": 3, "tolerance": 1e-9, **options})
    (quantity,) = natural_contrast_regret(risk, specification, seed, ignore).quantities
    return quantity


@functools.cache
def of_line(loss: str = "cross-entropy") -> EmpiricalRisk:
    X, y = data(80, 5)
    return linear(X, y, np.linspace(-1, 1, 5), loss, chunk=7)


@pytest.mark.parametrize("loss", ["cross-entropy", "mse"])
@pytest.mark.parametrize("size", [1e-5, 0.1, 4.0])
def test_the_divergence_is_that_of_the_labels_distributions(loss: str, size: float) -> None:
    """Bernoulli's by the sum over both labels; that of Gaussians of variance 1/2 is the square of the difference."""
    risk, rows = of_line(loss), np.arange(11)
    X, theta = np.asarray(risk.X)[rows], np.asarray(risk.theta)
    delta = size * np.array([1, -2, 0.5, 1, 3])
    f, other = np.longdouble(X @ theta), np.longdouble(X @ theta) + X @ delta
    p, q = 1 / (1 + np.exp(-f)), 1 / (1 + np.exp(-other))
    bernoulli = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    expected = 2 * np.mean(bernoulli if loss == "cross-entropy" else (other - f) ** 2)
    with high_precision():
        value = float(jax.jit(Ball.divergence)(ball(risk, rows, metric(risk, rows)), jnp.asarray(delta)))
    assert value == pytest.approx(float(expected), rel=1e-8)


@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_the_ball_is_the_image_of_a_euclidean_one(damping: float) -> None:
    """C(δ(u)) = ‖u‖², and the gradient in u is that of L by differences."""
    risk, rows = small("cross-entropy", "erf"), np.arange(11)
    around = ball(risk, rows, metric(risk, rows, damping))

    @jax.jit
    def of(u: jax.Array) -> tuple:
        v = around.metric.scale * around.whiten(u)
        rho, taken = around.reach(v, jnp.linalg.norm(u))
        return rho * v, around.divergence(rho * v), taken, *around.loss(minibatch(risk, jnp.arange(12, 18)))(u)

    directions = np.asarray(around.metric.eigenvectors)
    for size in (1e-3, 0.5):
        u = directions.T @ np.linspace(-1, 1, len(directions))
        u *= size / np.linalg.norm(u)
        with high_precision():
            delta, divergence, taken, value, gradient, cost = of(jnp.asarray(u))
            assert float(divergence) == pytest.approx(size**2, rel=1e-9)
            assert float(value) == pytest.approx(float(risk.subset(range(12, 18)).loss(risk.theta + delta)))
            assert float(cost) == pytest.approx(1 + 11 / 6 * (1 + 2 / 3 * int(taken)))
            assert 1 < int(taken) < 30
            for direction in directions[:3]:
                step = 1e-4 * size * direction
                higher, lower = (float(of(jnp.asarray(at))[3]) for at in (u + step, u - step))
                slope = (higher - lower) / (2e-4 * size)
                assert float(gradient @ direction) == pytest.approx(slope, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("radius", [0.01, 0.3, 10.0])
def test_regret_of_exact_minima_of_quadratic_losses(radius: float) -> None:
    """Of squared errors of a linear network the divergence is quadratic too."""
    risk = of_line("mse")
    for_fisher, for_minibatches = parts(80, NaturalContrastRegret(), 3)
    X = np.asarray(risk.X)[for_fisher]
    root = np.linalg.cholesky(2 * X.T @ X / len(X)).T
    expected = [regret(risk, pair, radius, root) for pair in pairs_of_minibatches(for_minibatches, 8, 3, 3)]
    value = found(risk, radius=radius, tolerance=1e-11, max_steps=5000)
    assert value.status == "ok"
    assert value.value == pytest.approx(np.mean(expected), rel=1e-5)
    assert value.stderr == pytest.approx(np.std(expected, ddof=1) / 3**0.5, rel=1e-4)


@pytest.mark.parametrize("damping", [0.0, 0.2])
def test_regret_agrees_with_slsqp_where_the_divergence_is_not_quadratic(damping: float) -> None:
    """SLSQP with the constraint as it stands; the risk is convex."""
    risk, radius = of_line(), 0.8
    X, y, theta = (np.asarray(each) for each in (risk.X, risk.y, risk.theta))
    for_fisher, for_minibatches = parts(80, NaturalContrastRegret(), 3)
    p = 1 / (1 + np.exp(-X[for_fisher] @ theta))
    D = np.mean((p * (1 - p))[:, None] * X[for_fisher] ** 2, axis=0)

    def left(delta: np.ndarray) -> float:
        q = 1 / (1 + np.exp(-X[for_fisher] @ (theta + delta)))
        divergence = np.mean(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
        return radius**2 - 2 * divergence - damping * delta @ (D * delta)

    def loss(delta: np.ndarray, rows: np.ndarray) -> float:
        return float(np.mean(np.logaddexp(0, -y[rows] * (X[rows] @ (theta + delta)))))

    def smallest(rows: np.ndarray) -> np.ndarray:
        constraint = {"type": "ineq", "fun": left}
        options = {"ftol": 1e-14, "maxiter": 500}
        return minimize(loss, np.zeros(5), (rows,), method="SLSQP", constraints=[constraint], options=options).x

    values = []
    for pair in pairs_of_minibatches(for_minibatches, 8, 3, 3):
        first, second = map(smallest, pair)
        excess = loss(first, pair[1]) - loss(second, pair[1]) + loss(second, pair[0]) - loss(first, pair[0])
        values.append(excess / 2 / radius)
    value = found(risk, radius=radius, damping=damping)
    assert value.value == pytest.approx(np.mean(values), rel=1e-4)
    assert abs(value.value / value.diagnostics["limit"] - 1) > 0.02


def test_regret_tends_to_the_closed_form() -> None:
    risk, errors = of_line(), []
    closed = natural_gradient_contrast(risk, NaturalGradientContrast(batch=8, pairs=3), 3, ignore).quantities[0]
    for radius in (1e-2, 1e-3, 1e-4):
        value = found(risk, radius=radius)
        assert value.status == "ok"
        assert value.diagnostics["limit"] == pytest.approx(closed.value, rel=1e-12)
        errors.append(abs(value.value / closed.value - 1))
    assert errors[0] < 0.01
    # The next term is of the first order in ε.
    assert errors[1] == pytest.approx(errors[0] / 10, rel=0.1)
    assert errors[2] == pytest.approx(errors[0] / 100, rel=0.1)


def test_rescaling_leaves_a_network_with_a_divergence_that_is_not_quadratic_alone() -> None:
    """Rescaling at a radius where the divergence is not quadratic; all measures are rescaled at 1e-3 in other tests."""
    options = {"damping": 0.1, "fisher_examples": 60, "pairs": 2, "radius": 0.05, "tolerance": 1e-3}
    before = found(many(), **options)
    assert before.status == "ok"
    assert 1e-3 < abs(before.value / before.diagnostics["limit"] - 1) < 0.2
    for other in rescaled(many()):
        after = found(other, **options)
        assert after.status == "ok"
        assert after.value == pytest.approx(before.value, rel=1e-3)


def test_statuses_and_refusals() -> None:
    assert found(of_line(), max_steps=1, radius=0.8).status == "not-converged"
    flat = found(of_line().at(1e6 * np.ones(5)))
    assert flat.status == "degenerate"
    assert math.isnan(flat.value)
    with pytest.raises(InvalidInput, match=r"^batch: got 6 where two minibatches have to fit into 10 examples"):
        measure(LINEAR, np.ones(4), *data(20, 4), [NaturalContrastRegret(batch=6)])
