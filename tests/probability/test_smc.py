import functools
import itertools
import math
import time
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import logsumexp

from nngp_prior import log_probabilities, log_probability
from nngp_prior.numerics.threads import use_cores
from nngp_prior.progress import Progress
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.specs.data import Constant, OneVsRest, RandomLabels, Threshold
from tests.cases import digits, equicorrelated, equicorrelated_labels, equicorrelated_truth
from tests.probability.oracles import all_labellings

KINDS, RHOS = ("positive", "mixed", "random"), (0.1, 0.5, 0.8, 0.95)


@pytest.mark.parametrize(
    ("n", "rho", "kind"),
    [
        (2, 0.95, "mixed"),
        *itertools.product((10,), RHOS, KINDS),
        *[(300, 0.1, "random"), (300, 0.5, "mixed"), (300, 0.8, "positive"), (300, 0.95, "random")],
        *(pytest.param(*case, marks=pytest.mark.slow) for case in itertools.product((1000,), RHOS, KINDS)),
    ],
)
def test_agrees_with_the_closed_form(n: int, rho: float, kind: str) -> None:
    labels = equicorrelated_labels(n, kind)
    estimate = log_probability(equicorrelated(n, rho), labels)
    assert estimate.stderr is not None
    assert abs(estimate.value - equicorrelated_truth(rho, labels)) < 4 * estimate.stderr
    assert estimate.stderr <= 0.03


def test_standard_error_is_small_where_it_was_promised() -> None:
    estimate = log_probability(equicorrelated(1000, 0.5), np.ones(1000, dtype=int))
    assert estimate.stderr is not None
    assert estimate.stderr <= 0.03
    assert estimate.status == "ok"


def test_all_labellings_sum_to_one() -> None:
    K = digits(5, Constant(), depth=10)[0]
    estimates = log_probabilities(K, all_labellings(5), particles=64, replicates=16)
    total = float(np.exp(logsumexp([e.value for e in estimates])))
    error = math.sqrt(sum((math.exp(e.value) * (e.stderr or 0)) ** 2 for e in estimates))
    assert abs(total - 1) < 4 * error
    assert error < 0.01


@pytest.mark.parametrize("labelling", [Constant(), OneVsRest(label=0)])
def test_agrees_with_counting_draws(labelling) -> None:
    K, labels = digits(12, labelling)
    smc, counted = (log_probability(K, labels, method=method) for method in ("smc", "sampling"))
    assert abs(smc.value - counted.value) < 4 * math.hypot(smc.stderr or 0, counted.stderr or 0)


def test_does_not_depend_on_scale_order_or_sign() -> None:
    K, labels = digits(120, Threshold(at=5))
    reference = log_probability(K, labels)
    order = np.random.default_rng(0).permutation(120)
    d = np.random.default_rng(1).gamma(1, size=120)
    others = {
        "1e-12 K": (1e-12 * K, labels),
        "1e12 K": (1e12 * K, labels),
        "each input by itself": (K * np.outer(d, d), labels),
        "permuted": (K[np.ix_(order, order)], labels[order]),
        "flipped": (K, -labels),
    }
    for name, (other_K, other_labels) in others.items():
        other = log_probability(other_K, other_labels)
        assert abs(other.value - reference.value) < 4 * math.hypot(reference.stderr or 0, other.stderr or 0), name
    # Rounding changes proposals that have not converged, and with them the estimate, by less than its error.
    assert log_probability(1e12 * K, labels).value == pytest.approx(reference.value, abs=1e-3)


def test_same_seed_same_value_in_any_batch() -> None:
    K, labels = digits(50, Threshold(at=5))
    alone = log_probability(K, labels, seed=3)
    batch = log_probabilities(K, [-labels, np.ones(50, dtype=int), labels], seed=3)
    assert batch[2].value == alone.value
    assert log_probability(K, labels, seed=4).value != alone.value
    completed = dict(log_probabilities(K, [labels, -labels], seed=3, as_completed=True))
    assert completed[0].value == alone.value
    assert completed[1].value == batch[0].value


@pytest.mark.parametrize("particles", [5, 100, 2048])
def test_any_number_of_particles(particles: int) -> None:
    K, labels = equicorrelated(20, 0.5), np.ones(20, dtype=int)
    estimate = log_probability(K, labels, particles=particles, replicates=16)
    assert abs(estimate.value + math.log(21)) < 4 * (estimate.stderr or 0)


@functools.cache
def of_digits() -> Estimate:
    return log_probability(*digits(150, Threshold(at=5)), seed=1)


@pytest.mark.parametrize("shares", [(1, 0, 0), (0, 1, 0), (0.4, 0, 0.6)])
def test_any_mixture_is_unbiased_also_with_resampling(shares: tuple[float, ...]) -> None:
    K, labels = digits(150, Threshold(at=5))
    reference = of_digits()
    estimate = log_probability(K, labels, shares=shares, particles=256)
    assert abs(estimate.value - reference.value) < 4 * math.hypot(estimate.stderr or 0, reference.stderr or 0)
    if shares[1] == 0:
        assert estimate.diagnostics["resamplings"] > 0


def test_target_is_met_or_said_not_to_be() -> None:
    K, labels = digits(60, Threshold(at=5))
    met = log_probability(K, labels, particles=32, replicates=8, target_stderr=0.01)
    assert met.status == "ok"
    assert met.stderr is not None
    assert met.stderr <= 0.01
    assert met.diagnostics["replicates"] > 8
    missed = log_probability(K, labels, particles=32, replicates=8, target_stderr=1e-4, max_replicates=9)
    assert missed.status == "target-not-met"
    assert missed.diagnostics["replicates"] == 9


def test_heavy_tails_are_told_and_the_default_avoids_them() -> None:
    """Without the mixture the weights of this case have infinite variance."""
    K, labels = equicorrelated(200, 0.8), np.ones(200, dtype=int)
    plain = [log_probability(K, labels, shares=(0, 1, 0), seed=seed).status for seed in range(4)]
    default = [log_probability(K, labels, seed=seed).status for seed in range(4)]
    assert plain.count("heavy-tailed") >= 3
    assert default.count("ok") == 4


def test_noise_and_jitter_are_of_another_kernel_and_say_so() -> None:
    K, labels = digits(40, Threshold(at=5))
    noisy = log_probability(K, labels, noise_variance=0.3)
    direct = log_probability(K + 0.3 * np.eye(40), labels)
    assert noisy.value == pytest.approx(direct.value, abs=1e-9)
    assert noisy.message == "estimate of K + cI with c = 0.3"
    jittered = log_probability(K, labels, jitter=0.5)
    mean = np.mean(np.diagonal(K))
    assert jittered.value == pytest.approx(log_probability(K, labels, noise_variance=0.5 * mean).value, abs=1e-9)
    assert direct.message == ""


def test_progress_ends_where_it_should() -> None:
    K, labels = digits(100, RandomLabels())
    events: list[Progress] = []
    log_probability(K, labels, progress=events.append)
    stages = list(dict.fromkeys(event.stage for event in events))
    assert stages == ["labellings", "EP sweeps", "pilots", "replicates"]
    assert [event.stage for event in events if event.cost is not None] == ["labellings"]
    for stage in stages[1:]:
        of_stage = [event for event in events if event.stage == stage]
        assert of_stage[-1].done == of_stage[-1].total
        assert all(a.done <= b.done for a, b in pairwise(of_stage))


def test_diagnostics() -> None:
    K, labels = digits(100, Threshold(at=5))
    diagnostics = log_probability(K, labels).diagnostics
    assert diagnostics["log_z_ep"] == pytest.approx(log_probability(K, labels, method="ep").value, abs=0.02)
    assert 0.1 * 128 * 32 < diagnostics["effective_sample_size"] < 128 * 32
    assert sum(diagnostics["shares"]) == pytest.approx(1, abs=0.01)
    assert diagnostics["shares"][0] > 0
    assert diagnostics["rank"] == diagnostics["distinct_inputs"] == 100


def test_an_exception_of_the_callback_ends_all_groups() -> None:
    """Raised once, in the thread of one group: the other groups stop after the block that they are in."""
    K, labels = digits(300, RandomLabels())
    blocks: list[int] = []

    def interrupt(event: Progress) -> None:
        if event.stage == "replicates":
            blocks.append(event.done)
            if len(blocks) == 1:
                raise KeyboardInterrupt
            time.sleep(0.1)  # the exception is on its way to the thread that stops the groups

    with pytest.raises(KeyboardInterrupt):
        log_probability(K, labels, progress=interrupt)
    assert len(blocks) <= 3


@pytest.mark.parametrize("method", ["smc", "ep", "ghk"])
def test_the_bits_do_not_depend_on_how_many_cores_are_used(method: str) -> None:
    K, y = digits(200, Threshold(at=5))
    with use_cores(1):
        on_one = log_probability(K, y, method=method, seed=3)
    assert on_one.value == log_probability(K, y, method=method, seed=3).value
