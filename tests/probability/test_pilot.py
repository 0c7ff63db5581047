"""Decisions of the pilot: shares and number of particles."""

import math

import numpy as np
import pytest

from nngp_prior import log_probability
from nngp_prior.probability import memory_needed, prepare
from nngp_prior.probability.common_random_numbers import run_labelling
from nngp_prior.progress import ignore
from nngp_prior.schemas.specs.estimator import SMC
from tests.cases import equicorrelated
from tests.skewed_cases import SKEWED, log_orthant_ar1, log_orthant_factors, log_orthant_ma1


@pytest.fixture(scope="module")
def smooth() -> tuple[np.ndarray, np.ndarray]:
    """A case whose weights have a relative variance of about 16."""
    case = SKEWED["exp(-0.1 d²) on 12 × 12, all positive"]()
    return case.K, case.labels


def test_uneven_weights_get_more_particles(smooth: tuple[np.ndarray, np.ndarray]) -> None:
    for seed in range(2):
        estimate = log_probability(*smooth, seed=seed)
        decided = estimate.diagnostics
        assert decided["particles"] == 256
        assert decided["pilot_particles"] == 8 * 128
        assert decided["pilot_variance"] > 3
        assert estimate.status == "ok"
        assert estimate.stderr is not None
        assert estimate.stderr < 0.09  # 0.11 with 32 particles
        assert abs(estimate.value + 10.03) < 4 * estimate.stderr


def test_a_pilot_in_doubt_is_repeated_with_more_particles() -> None:
    """256 weights say 2.3 to 4 on this kernel, 1,024 weights 3 to 39; 32 particles give an error of 0.1 or more."""
    case = SKEWED["Matérn, length 0.173, 900 of 31 × 31, all negative"]()
    estimate = log_probability(case.K, case.labels)
    assert estimate.diagnostics["particles"] == 256
    assert estimate.status == "ok"
    assert estimate.stderr is not None
    assert estimate.stderr < 0.06
    assert abs(estimate.value + 17.414) < 4 * estimate.stderr


def test_even_weights_get_no_more() -> None:
    K, labels = equicorrelated(50, 0.5), np.ones(50, dtype=int)
    estimate = log_probability(K, labels)
    assert [estimate.diagnostics[name] for name in ("particles", "pilot_particles")] == [32, 256]
    assert estimate.diagnostics["pilot_variance"] < 1
    assert log_probability(K, labels, particles=32) == estimate


def test_a_given_number_of_particles_is_kept(smooth: tuple[np.ndarray, np.ndarray]) -> None:
    decided = log_probability(*smooth, particles=32).diagnostics
    assert [decided[name] for name in ("particles", "pilot_particles")] == [32, 256]
    with_target = log_probability(*smooth, particles=32, target_stderr=0.08).diagnostics
    assert with_target["particles"] == 32
    assert with_target["replicates"] > 32
    given = log_probability(*smooth, shares=(0.1, 0.6, 0.3)).diagnostics  # no pilot at all
    assert given["particles"] == 32
    assert "pilot_variance" not in given


def test_a_target_without_a_number_of_particles_uses_the_larger_pilot(smooth: tuple[np.ndarray, np.ndarray]) -> None:
    estimate = log_probability(*smooth, target_stderr=0.06)
    assert estimate.status == "ok"
    assert estimate.diagnostics["particles"] >= 256
    assert estimate.diagnostics["pilot_particles"] == 8 * 128


def test_runs_with_common_random_numbers_have_equally_many(smooth: tuple[np.ndarray, np.ndarray]) -> None:
    K, labels = smooth
    run = run_labelling(prepare(K, SMC()), labels, SMC(replicates=2), 0, len(K), ignore)
    assert run.log_weights.shape == (2, 32)


def test_memory_is_that_of_the_most_particles_a_pilot_may_choose() -> None:
    assert memory_needed(500, SMC()) == memory_needed(500, SMC(particles=256))
    assert memory_needed(500, SMC(particles=32)) < memory_needed(500, SMC())


def test_recursions_and_quadrature_of_the_skewed_cases() -> None:
    """The truths of the calibration against closed forms."""
    labels = np.array([1.0, 1.0, -1.0])
    i = np.arange(3)
    for truth, K in (
        (log_orthant_ar1(0.9, labels), 0.9 ** np.abs(i[:, None] - i)),
        (log_orthant_ma1(0.8, labels), 1.64 * np.eye(3) + 0.8 * (np.eye(3, k=1) + np.eye(3, k=-1))),
        (log_orthant_ma1(-0.8, labels), 1.64 * np.eye(3) - 0.8 * (np.eye(3, k=1) + np.eye(3, k=-1))),
    ):
        assert truth == pytest.approx(log_probability(K, labels, method="closed-form").value, abs=1e-8)
    assert log_orthant_ma1(-1.0, np.ones(30)) == pytest.approx(-math.lgamma(32), abs=1e-3)
    loadings = np.sqrt([0.6, 0.3, 0.8])[:, None]
    K = loadings @ loadings.T + 0.2 * np.eye(3)
    two = np.hstack([loadings * math.sqrt(0.25), loadings * math.sqrt(0.75)])  # the same factor in two parts
    expected = log_probability(K, labels, method="closed-form").value
    assert log_orthant_factors(loadings, 0.2, labels) == pytest.approx(expected, abs=1e-8)
    assert log_orthant_factors(two, 0.2, labels) == pytest.approx(expected, abs=1e-6)


def test_sweeps_end_when_variances_have_settled_too() -> None:
    """Means move by 3.1, 0.04 and 0.22 deviations, log variances by 1.6, 0.56 and 0.08; log Z is -10.8, -9.5, -9.15."""
    case = SKEWED["Matérn, length 0.3, 15 × 15, all negative"]()
    found = log_probability(case.K, case.labels)
    converged = log_probability(case.K, case.labels, method="ep")
    assert found.diagnostics["ep_sweeps"] >= 3
    assert abs(found.diagnostics["log_z_ep"] - converged.value) < 0.1


def test_one_odd_label_gives_no_heavy_tail() -> None:
    """A narrower widened proposal is heavy-tailed on two of three seeds here."""
    case = SKEWED["two factors + 0.3, one odd, n = 200"]()
    for seed in range(4):
        estimate = log_probability(case.K, case.labels, seed=seed)
        assert estimate.status == "ok"
        assert case.truth is not None
        assert estimate.stderr is not None
        assert abs(estimate.value - case.truth) < 4 * estimate.stderr
