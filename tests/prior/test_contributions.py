import math

import numpy as np
import pytest

from nngp_prior import contributions, log_probability, posterior
from nngp_prior.errors import InvalidInput
from nngp_prior.progress import Progress
from nngp_prior.schemas.specs.data import Threshold
from tests.cases import digits, equicorrelated


def test_the_rule_of_succession() -> None:
    """Equicorrelation ½: P(y_i | y_<i) = (number of that label before + 1)/(i + 2), i = 0, 1, …"""
    labels = np.random.default_rng(1).choice([-1, 1], 40, p=[0.3, 0.7])
    found = contributions(equicorrelated(40, 0.5), labels)
    truth = [math.log((np.sum(labels[:i] == labels[i]) + 1) / (i + 2)) for i in range(40)]
    assert np.all(np.abs(found.value - truth) < 4 * found.stderr + 1e-6)
    assert found.stderr.max() < 0.02
    assert found.value.sum() == pytest.approx(found.log_p.value, abs=1e-12)
    assert found.order.tolist() == list(range(40))


def test_an_order_and_sizes() -> None:
    K, labels = digits(60, Threshold(at=5))
    order = np.random.default_rng(0).permutation(60)
    told: list[Progress] = []
    found = contributions(K, labels, order=order, sizes=[40, 20, 20], progress=told.append)
    assert found.sizes.tolist() == [20, 40, 60]
    assert told[0].cost is not None
    assert told[0].done == 0
    assert told[-1] == Progress("prefixes", 3, 3)
    assert found.value.sum() == pytest.approx(found.log_p.value, abs=1e-12)
    for i, end in enumerate((20, 40)):
        alone = log_probability(K[np.ix_(order[:end], order[:end])], labels[order[:end]])
        sum_so_far = found.value[: i + 1].sum()
        assert abs(alone.value - sum_so_far) < 4 * math.hypot(alone.stderr or 0, found.log_p.stderr or 0)
    rest = posterior(K[np.ix_(order, order)], labels[order[:40]], seed=5).log_probability(labels[order[40:]])
    assert abs(rest.value - found.value[2]) < 4 * math.hypot(rest.stderr or 0, found.stderr[2])
    again = contributions(K, labels, order=order, sizes=[20, 40])
    assert np.array_equal(found.value, again.value)


def test_singular_kernels() -> None:
    """Points of a circle, and a copy: what determined labels contribute is 0."""
    angles = np.array([0.1, 0.7, 1.5, 0.7])
    X = np.column_stack([np.cos(angles), np.sin(angles)])
    found = contributions(X @ X.T, [1, 1, 1, 1], particles=128)
    truth = np.diff(np.log([1.0, 0.5, 0.5 - 0.6 / (2 * np.pi), 0.5 - 1.4 / (2 * np.pi)]), append=[0.0])
    truth[3] = 0.0
    assert np.all(np.abs(found.value - truth) < 4 * found.stderr + 1e-9)
    with pytest.raises(InvalidInput, match="inputs 1 and 3"):
        contributions(X @ X.T, [1, 1, 1, -1], order=[3, 2, 1, 0])


@pytest.mark.parametrize(
    "options",
    [
        *({"order": order} for order in ([0, 1, 1], [0.0, 1.0, 2.0], [[0, 1, 2]], [0, 1])),
        *({"sizes": [size]} for size in (0, 4, True)),
        {"classes": 3},
        {"target_stderr": 0.1},
    ],
)
def test_misuse(options: dict) -> None:
    with pytest.raises(InvalidInput, match=f"^{next(iter(options))}: "):
        contributions(equicorrelated(3, 0.5), [1, 1, -1], **options)


def test_a_little_noise_on_a_singular_kernel_is_in_every_prefix() -> None:
    """Copies of an input have different labels with the probability of the noise: 2 arccos(ρ)/2π, given the first."""
    K = np.ones((3, 3))
    K[2, :2] = K[:2, 2] = 0.0
    found = contributions(K, [1, -1, 1], noise_variance=1e-7)
    truth = [math.log(0.5), math.log(math.acos(1 / (1 + 1e-7)) / math.pi), math.log(0.5)]
    assert np.all(np.abs(found.value - truth) < 4 * found.stderr + 1e-6)
    assert found.log_p.diagonal_shift == 1e-7
