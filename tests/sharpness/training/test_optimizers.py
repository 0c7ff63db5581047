"""Each optimizer, step by step, against a few lines of NumPy on quadratics, another one for each minibatch."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.specs.training import SAM, SGD, Adam, EntropySGD, Momentum, Optimizer
from nngp_prior.sharpness.training.optimizers import OPTIMIZERS, steps_of

P, STEPS, MINIBATCHES = 5, 7, 20
_rng = np.random.default_rng(0)
_ROOTS = _rng.standard_normal((STEPS, MINIBATCHES, P, P))
A = _ROOTS @ np.swapaxes(_ROOTS, -1, -2) / P  # the loss of minibatch j of step t is θᵀ A θ / 2 - bᵀ θ
B = _rng.standard_normal((STEPS, MINIBATCHES, P))
START = _rng.standard_normal(P)


def gradient(theta: np.ndarray, t: int, j: int = 0) -> np.ndarray:
    return A[t, j] @ theta - B[t, j]


def path_of(optimizer: Optimizer, dtype: type = np.float64) -> np.ndarray:
    """θ after each step; it is given as two arrays, as those of a network are several."""
    with jax.enable_x64(True):
        steps = steps_of(optimizer)
        theta = (jnp.asarray(START[:2], dtype), {"rest": jnp.asarray(START[2:], dtype)})
        state, found = steps.init(theta), []
        quadratics = jnp.asarray(A, dtype), jnp.asarray(B, dtype)

        @jax.jit
        def one(theta, state, t, key):
            def of_tree(theta, j):
                g = quadratics[0][t, j] @ jnp.concatenate([theta[0], theta[1]["rest"]]) - quadratics[1][t, j]
                return g[:2], {"rest": g[2:]}

            return steps.step(theta, state, of_tree, key)

        for t in range(STEPS):
            theta, state = one(theta, state, t, jax.random.key(t))
            found.append(np.concatenate([theta[0], theta[1]["rest"]]))
        assert found[0].dtype == dtype
        return np.array(found)


def sgd() -> np.ndarray:
    theta, found = START, []
    for t in range(STEPS):
        theta = theta - 0.1 * gradient(theta, t)
        found.append(theta)
    return np.array(found)


def momentum(nesterov: bool) -> np.ndarray:
    theta, m, found = START, np.zeros(P), []
    for t in range(STEPS):
        g = gradient(theta, t)
        m = 0.8 * m + g
        theta = theta - 0.1 * (g + 0.8 * m if nesterov else m)
        found.append(theta)
    return np.array(found)


def adam() -> np.ndarray:
    theta, m, v, found = START, np.zeros(P), np.zeros(P), []
    for t in range(STEPS):
        g = gradient(theta, t)
        m, v = 0.7 * m + 0.3 * g, 0.9 * v + 0.1 * g**2
        theta = theta - 0.1 * (m / (1 - 0.7 ** (t + 1))) / (np.sqrt(v / (1 - 0.9 ** (t + 1))) + 1e-3)
        found.append(theta)
    return np.array(found)


def sam() -> np.ndarray:
    theta, m, found = START, np.zeros(P), []
    for t in range(STEPS):
        g = gradient(theta, t)
        m = 0.8 * m + gradient(theta + 0.3 * g / np.linalg.norm(g), t)
        theta = theta - 0.1 * m
        found.append(theta)
    return np.array(found)


def entropy_sgd(langevin_momentum: float) -> np.ndarray:
    """Without noise."""
    theta, velocity, found = START, np.zeros(P), []
    for t in range(STEPS):
        gamma = 0.05 * 1.2**t
        inside, mean, inner = theta.copy(), theta.copy(), np.zeros(P)
        for j in range(MINIBATCHES):
            g = gradient(inside, t, j)
            inner = langevin_momentum * inner + g
            inside = inside - 0.1 * (g + langevin_momentum * inner - gamma * (theta - inside))
            mean = 0.75 * mean + 0.25 * inside
        d = theta - mean
        velocity = 0.9 * velocity + d
        theta = theta - 0.5 * (d + 0.9 * velocity)
        found.append(theta)
    return np.array(found)


_ENTROPY = {"learning_rate": 0.5, "scope": 0.05, "scoping": 0.2, "noise": 0}
CASES = [
    (SGD(learning_rate=0.1), sgd()),
    (Momentum(learning_rate=0.1, momentum=0.8), momentum(nesterov=False)),
    (Momentum(learning_rate=0.1, momentum=0.8, nesterov=True), momentum(nesterov=True)),
    (Adam(learning_rate=0.1, beta1=0.7, beta2=0.9, epsilon=1e-3), adam()),
    (SAM(learning_rate=0.1, momentum=0.8, rho=0.3), sam()),
    (EntropySGD(**_ENTROPY), entropy_sgd(0)),
    (EntropySGD(**_ENTROPY, langevin_momentum=0.5), entropy_sgd(0.5)),
]


@pytest.mark.parametrize(("optimizer", "expected"), CASES, ids=lambda case: getattr(case, "kind", ""))
def test_every_step_is_that_of_the_definition(optimizer: Optimizer, expected: np.ndarray) -> None:
    assert path_of(optimizer) == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_float32_stays_float32() -> None:
    assert path_of(EntropySGD(**_ENTROPY), np.float32) == pytest.approx(entropy_sgd(0), rel=1e-3, abs=1e-4)


def test_all_optimizers_are_there() -> None:
    assert set(OPTIMIZERS) == set(get_args(get_args(Optimizer)[0])) == {type(optimizer) for optimizer, _ in CASES}


def test_the_noise_of_entropy_sgd() -> None:
    """One Langevin step where the loss is flat: θ moves by η (1 - α) √η' ε N(0, I), and γ is multiplied by 0."""
    steps = steps_of(EntropySGD(learning_rate=0.5, momentum=0, langevin_steps=1, noise=0.2))
    theta = (jnp.zeros(20_000), jnp.zeros((100, 200)))
    moved, _ = steps.step(
        theta, steps.init(theta), lambda theta, _: jax.tree.map(jnp.zeros_like, theta), jax.random.key(3)
    )
    drawn = np.stack([np.ravel(leaf) for leaf in moved]).astype(np.float64)
    std = 0.5 * 0.25 * 0.1**0.5 * 0.2
    n = drawn.shape[1]
    assert np.abs(drawn.mean(axis=1)).max() < 4 * std / n**0.5
    assert np.abs(drawn.std(axis=1) / std - 1).max() < 4 / (2 * n) ** 0.5
    assert abs(np.corrcoef(drawn)[0, 1]) < 4 / n**0.5


def test_sam_where_the_gradient_is_zero() -> None:
    steps = steps_of(SAM())
    theta = jnp.ones(3)
    moved, _ = steps.step(theta, steps.init(theta), lambda theta, _: jnp.zeros_like(theta), jax.random.key(0))
    assert np.array_equal(moved, theta)


@pytest.mark.parametrize(
    ("optimizer", "field"),
    [
        (lambda: SGD(learning_rate=0), "learning_rate"),
        (lambda: SGD(learning_rate=float("nan")), "learning_rate"),
        (lambda: Momentum(momentum=1), "momentum"),
        (lambda: Adam(beta2=-0.1), "beta2"),
        (lambda: SAM(rho=0), "rho"),
        (lambda: EntropySGD(langevin_steps=0), "langevin_steps"),
        (lambda: EntropySGD(gamma=1), "gamma"),
    ],
)
def test_bad_options(optimizer, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        optimizer()
    assert refused.value.field == field
