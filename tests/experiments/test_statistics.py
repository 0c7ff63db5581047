"""Statistics on data whose answer is known, and against SciPy's."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from nngp_prior.experiments.statistics import (
    bootstrap,
    conditional_information,
    granulated,
    kendall,
    partial,
    pearson,
    sign_error,
    spearman,
)

GRID = list(itertools.product(range(4), range(3), range(2)))  # values of axes a and b, number of the network
A, B, NUMBER = (np.array(column, float) for column in zip(*GRID, strict=True))
AXES = {"a": list(A), "b": list(B)}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_correlations_are_those_of_scipy(ties: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(30)
    y = x + rng.standard_normal(30)
    if ties:
        x, y = np.round(x), np.round(y)
    assert pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic)


def test_of_constant_values_there_is_no_correlation() -> None:
    constant, y = np.ones(5), np.arange(5.0)
    assert all(math.isnan(of(constant, y)) for of in (pearson, spearman, kendall))


def test_partial_correlation_is_that_of_residuals() -> None:
    rng = np.random.default_rng(0)
    z = rng.standard_normal(40)
    x, y = z + 0.5 * rng.standard_normal(40), z + 0.5 * rng.standard_normal(40)
    design = np.stack([np.ones(40), z], axis=1)
    residuals = [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (x, y)]
    assert partial(x, y, z) == pytest.approx(stats.pearsonr(*residuals).statistic)
    assert partial(x, y, np.ones(40)) == pytest.approx(pearson(x, y))


def test_granulated_coefficient_is_a_mean_over_axes() -> None:
    """The quantity grows along a as y does, falls along b where y grows, and a has more weight in y."""
    x, y = 10 * A - B, 10 * A + B
    mean, along = granulated(x, y, AXES, list(NUMBER))
    assert along == {"a": 1.0, "b": -1.0}
    assert mean == 0.0
    assert kendall(x, y) > 0.5  # which the overall coefficient hides


def test_conditional_information_is_one_for_the_same_order_and_zero_for_a_confounder() -> None:
    rng = np.random.default_rng(0)
    y = A + 0.1 * rng.standard_normal(len(A))
    assert conditional_information(y, y, AXES) == pytest.approx(1)
    assert conditional_information(-y, y, AXES) == pytest.approx(1)  # it has no sign
    # x knows a and nothing else: given a of both networks it says nothing about the order of y.
    assert conditional_information(A, y, AXES) == pytest.approx(0, abs=1e-12)
    assert conditional_information(A, y, {}) > 0.3


def test_conditional_information_by_brute_force() -> None:
    rng = np.random.default_rng(1)
    x, y, u = rng.integers(3, size=9).astype(float), rng.integers(3, size=9).astype(float), rng.integers(2, size=9)
    pairs = [(np.sign(x[i] - x[j]), np.sign(y[i] - y[j]), (u[i], u[j])) for i, j in itertools.permutations(range(9), 2)]

    def entropy(values: list) -> float:
        counts = np.array([values.count(value) for value in set(values)])
        return -float(np.sum(counts / counts.sum() * np.log(counts / counts.sum())))

    found = []
    for given in (lambda pair: (), lambda pair: pair[2]):

        def joint(*which: int, given=given) -> float:
            return entropy([(*(pair[k] for k in which), given(pair)) for pair in pairs])

        information = joint(0) + joint(1) - joint(0, 1) - joint()
        found.append(information / (joint(1) - joint()))
    assert conditional_information(x, y, {"u": list(u)}) == pytest.approx(min(found))


def test_sign_error_of_right_and_wrong_order() -> None:
    errors, noise = 0.1 + 0.1 * A + 0.02 * B, np.full(len(A), 1e-6)
    right = sign_error(errors, errors, noise, AXES)
    assert right.environments == 3 * 6 + 4 * 3  # pairs of values of a for each of b, and the other way round
    assert (right.mean, right.worst) == (0.0, 0.0)
    wrong = sign_error(A - B, errors, noise, AXES)  # wrong along b
    assert wrong.worst == pytest.approx(1.0)
    assert wrong.mean == pytest.approx(12 / 30)
    assert sign_error(np.zeros(len(A)), errors, noise, AXES).mean == pytest.approx(0.5)


def test_uncertain_differences_have_little_weight() -> None:
    """Of two networks of each setting one pair is ordered wrongly, but within the noise of its errors."""
    axes = {"a": [0, 0, 1, 1]}
    errors, x = np.array([0.10, 0.30, 0.11, 0.50]), np.array([2.0, 3.0, 1.0, 4.0])
    noise = np.full(4, 0.05)
    assert sign_error(x, errors, noise, axes).mean < 0.12
    assert sign_error(x, errors, noise * 1e-6, axes).mean == pytest.approx(0.25)


def test_intervals_cover_the_true_coefficient() -> None:
    """Of 100 samples from a Gaussian with correlation 0.6; settings of one network each."""
    rng, covered = np.random.default_rng(0), 0
    for seed in range(100):
        x = rng.standard_normal(40)
        y = 0.6 * x + 0.8 * rng.standard_normal(40)
        (found,) = bootstrap(
            lambda x, y, z, pairs: [pearson(x, y)],
            x,
            y,
            y,
            np.zeros(40),
            range(40),
            level=0.95,
            resamples=150,
            seed=seed,
        )
        covered += found.low <= 0.6 <= found.high
    assert 88 <= covered <= 99


def test_networks_of_a_setting_are_drawn_together_and_errors_of_the_quantity_widen_intervals() -> None:
    rng = np.random.default_rng(0)
    a = np.repeat(rng.standard_normal(8), 10)
    x, y = a + 0.1 * rng.standard_normal(80), a + rng.standard_normal(8).repeat(10)

    def width(settings: object, stderr: float) -> float:
        (found,) = bootstrap(
            lambda x, y, z, pairs: [pearson(x, y)],
            x,
            y,
            y,
            np.full(80, stderr),
            settings,
            level=0.95,
            resamples=400,
            seed=0,
        )
        return found.high - found.low

    alone, together = width(range(80), 0.0), width(np.repeat(range(8), 10), 0.0)
    assert together > 1.5 * alone
    assert width(range(80), 2.0) > 1.3 * alone


def test_copies_of_settings_do_not_bias_kendalls_coefficient() -> None:
    """Settings that are far apart, and networks of one setting in random order."""
    rng = np.random.default_rng(0)
    a = np.repeat(np.arange(8.0), 5)
    x, y = a + 0.1 * rng.standard_normal(40), a + 0.1 * rng.standard_normal(40)
    (found,) = bootstrap(
        lambda x, y, z, pairs: [kendall(x, y, pairs)], x, y, y, np.zeros(40), a, level=0.9, resamples=500, seed=0
    )
    middle = (found.low + found.high) / 2
    assert abs(middle - found.value) < 0.4 * (found.high - found.low)
