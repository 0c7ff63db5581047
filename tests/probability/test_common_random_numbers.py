"""Ratios of means over replicates, against the jackknife written out; what runs have in common."""

import math

import numpy as np
import pytest

from nngp_prior.probability.common_random_numbers import log_ratio, ratios_of_means, run_labelling
from nngp_prior.probability.factored_kernel import leading_part, prepare
from nngp_prior.progress import ignore
from nngp_prior.schemas.specs.data import Threshold
from nngp_prior.schemas.specs.estimator import SMC
from tests.cases import digits


def jackknife(numerator: np.ndarray, denominator: np.ndarray, function) -> tuple[float, float]:
    count = len(numerator)
    left_out = [function(np.delete(numerator, r).mean() / np.delete(denominator, r).mean()) for r in range(count)]
    spread = sum((value - np.mean(left_out)) ** 2 for value in left_out)
    return function(numerator.mean() / denominator.mean()), math.sqrt((count - 1) / count * spread)


def test_ratios() -> None:
    rng = np.random.default_rng(0)
    denominator = rng.gamma(5.0, size=12)
    numerator = denominator * rng.uniform(0.2, 0.4, 12)
    expected = jackknife(numerator, denominator, math.log)
    assert log_ratio(np.log(numerator) - 2000, np.log(denominator) - 1000) == pytest.approx(
        (expected[0] - 1000, expected[1]), rel=1e-12
    )
    values, errors = ratios_of_means(np.array([numerator, 2 * numerator]), denominator)
    expected = jackknife(numerator, denominator, float)
    np.testing.assert_allclose(values, [expected[0], 2 * expected[0]], rtol=1e-12)
    np.testing.assert_allclose(errors, [expected[1], 2 * expected[1]], rtol=1e-12)


def test_one_replicate_that_carries_it_all_has_no_error_bar() -> None:
    one, even = np.array([-math.inf, 0.0, -math.inf]), np.zeros(3)
    assert log_ratio(one, even) == (pytest.approx(-math.log(3)), math.inf)
    assert log_ratio(even, one)[1] == math.inf
    assert ratios_of_means(np.ones(3), np.exp(one))[1] == math.inf


def test_runs_of_a_part_have_the_numbers_of_the_whole() -> None:
    """Where no label is to come that says anything of the first ones, both runs have the same first trajectories."""
    K, labels = digits(20, Threshold(at=5))
    K[15:, :15] = K[:15, 15:] = 0.0
    y, parameters = labels.astype(float), SMC(shares=(1.0, 0.0, 0.0))
    kernel = prepare(K, parameters, 15)
    part = run_labelling(leading_part(kernel, 15), y[:15], parameters, 3, 20, ignore, np.array([1.0, 0, 0]), keep=True)
    whole = run_labelling(kernel, y, parameters, 3, 20, ignore, np.array([1.0, 0, 0]), keep=True)
    assert part.epsilon is not None
    assert whole.epsilon is not None
    assert whole.epsilon.shape == (20, 32, 32)
    np.testing.assert_allclose(whole.epsilon[:15], part.epsilon, rtol=1e-12)
    f = np.einsum("ij,jrp->irp", kernel.L, whole.epsilon)
    assert np.all(f * y[:, None, None] > 0)


def test_the_particles_are_a_weighted_sample_after_resampling_too() -> None:
    """The mean of w ε over particles is that of independent runs with better proposals."""
    K, labels = digits(150, Threshold(at=5))
    kernel = prepare(K, SMC())
    y, uneven = labels.astype(float), np.array([0.9, 0.1, 0.0])
    small = run_labelling(kernel, y, SMC(particles=64), 1, 150, ignore, uneven, keep=True)
    large = run_labelling(kernel, y, SMC(particles=64), 2, 150, ignore, keep=True)
    assert small.diagnostics["resamplings"] > 0
    means, errors = [], []
    for run in (small, large):
        assert run.epsilon is not None
        weights = np.exp(run.log_weights - run.log_weights.max())
        mean, error = ratios_of_means(np.einsum("irp,rp->ir", run.epsilon, weights), weights.sum(axis=1))
        means.append(mean)
        errors.append(error)
    z = (means[0] - means[1]) / np.hypot(*errors)
    assert np.abs(z).max() < 4.5  # the largest of 150, with 31 degrees of freedom
    assert 0.8 < math.sqrt(np.mean(z**2)) < 1.25
