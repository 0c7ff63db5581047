import math

import numpy as np
import pytest

from nngp_prior.probability.diagnostics import effective_sample_size, largest_share, pareto_k
from nngp_prior.probability.proposals import allocate, optimal_shares


def test_effective_sample_size() -> None:
    assert effective_sample_size(np.zeros((3, 5))) == pytest.approx(15)
    assert effective_sample_size(np.array([0.0, -np.inf, -np.inf])) == pytest.approx(1)
    assert effective_sample_size(np.full(4, -np.inf)) == 0
    assert effective_sample_size(np.log([1.0, 2.0]) - 5000) == pytest.approx(9 / 5)


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_pareto_k_recovers_the_shape_of_pareto_weights(k: float) -> None:
    """P(w > x) = x^(-1/k); over 50 samples of 20,000 the mean estimate is near k, drawn a little towards ½."""
    samples = [-k * np.log(np.random.default_rng(seed).random(20_000)) for seed in range(50)]
    estimates = np.array([pareto_k(sample) for sample in samples], dtype=float)
    assert abs(estimates.mean() - k) < 0.05


def test_pareto_k_is_silent_where_it_cannot_tell() -> None:
    assert pareto_k(np.zeros(50)) is None
    assert pareto_k(np.zeros(5000)) is None
    assert pareto_k(np.where(np.arange(5000) < 10, 0.0, -np.inf)) is None


def test_pareto_k_sees_weights_beyond_any_exponent() -> None:
    log_weights = np.concatenate([np.random.default_rng(0).standard_normal(2000), [800.0, 900.0]])
    assert (pareto_k(log_weights) or 0) > 0.7


def test_largest_share() -> None:
    assert largest_share(np.log([1.0, 1.0, 4.0])) == pytest.approx(4 / 6)
    assert largest_share(np.zeros(7)) == 0
    assert largest_share(np.full(3, -np.inf)) == 0


def test_optimal_shares_are_those_of_the_convex_problem() -> None:
    """Gaussian proposals, one of them far off, for a Gaussian target: against a grid over the simplex, same pilot."""
    rng = np.random.default_rng(0)
    centres, widths = np.array([0.0, 1.0, -3.0, 20.0]), np.array([3.0, 1.0, 0.5, 0.1])
    x = np.concatenate([rng.normal(c, w, 3000) for c, w in zip(centres, widths, strict=True)])

    def log_normal(c: float, w: float) -> np.ndarray:
        return -0.5 * ((x - c) / w) ** 2 - math.log(w * math.sqrt(2 * math.pi))

    log_target = log_normal(0.8, 1.2)
    log_proposal = np.stack([log_normal(c, w) for c, w in zip(centres, widths, strict=True)])
    drawn = np.exp(log_proposal).mean(axis=0)
    grid = [(a, b, 1 - a - b, 0) for a in np.arange(0.1, 1, 0.02) for b in np.arange(0, 1 - a + 1e-9, 0.02)]
    second_moments = [np.mean(np.exp(2 * log_target) / (np.array(g) @ np.exp(log_proposal)) / drawn) for g in grid]
    usual = np.array([0.1, 0.3, 0.3, 0.3])
    best = np.array(grid[int(np.argmin(second_moments))])
    shares, variance = optimal_shares(log_target, log_proposal, usual)
    assert variance == pytest.approx(min(second_moments) / np.mean(np.exp(log_target) / drawn) ** 2 - 1, rel=0.02)
    np.testing.assert_allclose(shares, best, atol=0.06)


def test_allocation_uses_every_particle_and_keeps_the_defence() -> None:
    for shares in ([0.0625, 0.9, 0.03, 0.0075], [0.001, 0.3, 0.3, 0.399], [0.25, 0.25, 0.25, 0.25]):
        for particles in (4, 5, 128, 1000):
            counts = allocate(np.array(shares), particles)
            assert counts.sum() == particles
            assert counts.min() >= 0
            assert counts[0] >= 1
    assert allocate(np.array([0.625, 0.125, 0.125, 0.125]), 4).min() >= 0
    assert allocate(np.array([1.0, 0, 0, 0]), 7).tolist() == [7, 0, 0, 0]


def test_pareto_k_of_weights_that_differ_by_rounding() -> None:
    """Exceedances in whole steps put a candidate of the fit at exactly 0, where it is the exponential distribution."""
    steps = np.repeat([-3.0, -2.0, -1.0, 0.0], [80, 10, 5, 5])
    k_hat = pareto_k(steps * 2.0**-53)
    assert k_hat is not None
    assert k_hat < 0.3
