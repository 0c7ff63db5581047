"""Values, error bars and bounds from evidence, each computed a second time by other means."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, skew, t

from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.results.estimate import Counts, Estimate, Exact, Replicates

INF = math.inf


def replicates(*log_estimates: float) -> Replicates:
    return Replicates(log_estimates=tuple(map(float, log_estimates)))


def lognormal(count: int, sigma: float, seed: int = 0) -> Replicates:
    """Mean P = exp(-3)."""
    return replicates(*(-3 + sigma * np.random.default_rng(seed).standard_normal(count) - sigma**2 / 2))


def test_value_is_the_log_of_the_mean() -> None:
    assert replicates(math.log(0.1), math.log(0.2), -INF).value() == pytest.approx(math.log(0.1), abs=1e-15)


def test_standard_error_is_the_jackknifes() -> None:
    evidence = lognormal(12, 1.0)
    z = np.exp(evidence.log_estimates)
    left_out = np.log([np.delete(z, r).mean() for r in range(12)])
    expected = math.sqrt(11 / 12 * np.sum((left_out - left_out.mean()) ** 2))
    assert evidence.stderr() == pytest.approx(expected, rel=1e-12)


def test_standard_error_agrees_with_the_delta_method_where_replicates_hardly_vary() -> None:
    evidence = lognormal(200, 0.1)
    z = np.exp(evidence.log_estimates)
    assert evidence.stderr() == pytest.approx(z.std(ddof=1) / math.sqrt(200) / z.mean(), rel=0.01)


def test_interval_of_replicates_that_are_not_skewed_is_students() -> None:
    evidence = replicates(*np.log([0.2, 0.3, 0.4, 0.5, 0.5, 0.5, 0.5, 0.5]))
    centre, half = evidence.value(), evidence.stderr() * t(df=7).ppf(0.95)
    assert evidence.interval(0.9) == pytest.approx((centre - half, centre + half), rel=1e-12)


def test_upper_end_inverts_halls_transformation_of_skewed_replicates() -> None:
    evidence = lognormal(8, 1.5)
    z = np.exp(evidence.log_estimates)
    g = skew(z) * (1 + 3 / math.sqrt(8)) / math.sqrt(8)

    def transformed(log_p: float) -> float:
        T = (z.mean() - math.exp(log_p)) / (z.std(ddof=1) / math.sqrt(8))
        return T + g * T**2 / 3 + g**2 * T**3 / 27 + g / 6

    low, high = evidence.interval(0.9)
    quantile = t(df=7).ppf(0.95)
    assert low == pytest.approx(evidence.value() - quantile * evidence.stderr(), rel=1e-12)
    assert high > evidence.value() + quantile * evidence.stderr()
    assert transformed(high) == pytest.approx(-quantile, rel=1e-9)


def test_intervals_of_skewed_replicates_miss_less_often() -> None:
    """Means of 32 log-normal replicates, P = exp(-3): most misses are above."""
    quantile, count = t(df=31).ppf(0.975), 2000
    students = above = below = 0
    for seed in range(count):
        evidence = lognormal(32, 1.0, seed)
        low, high = evidence.interval(0.95)
        students += evidence.value() + quantile * evidence.stderr() < -3
        above += high < -3
        below += low > -3
    assert above < 0.75 * students
    assert below <= 0.025 * count


def test_interval_ends_at_probability_one() -> None:
    low, high = replicates(-0.01, -0.5, 0.3).interval(0.95)
    assert low < 0 == high


def test_scale_of_p_does_not_matter() -> None:
    """P far below the smallest float: everything moves by the same number of nats."""
    evidence, shift = lognormal(8, 1.0), -50_000.0
    moved = replicates(*(np.array(evidence.log_estimates) + shift))
    assert moved.value() == pytest.approx(evidence.value() + shift, abs=1e-9)
    assert moved.stderr() == pytest.approx(evidence.stderr(), rel=1e-9)
    assert moved.lower_bound(0.05) == pytest.approx(evidence.lower_bound(0.05) + shift, abs=1e-9)


def test_replicates_that_are_all_zero() -> None:
    evidence = replicates(-INF, -INF, -INF)
    assert (evidence.value(), evidence.stderr(), evidence.lower_bound(0.01)) == (-INF, INF, -INF)
    assert evidence.interval(0.95) == (-INF, 0.0)


def test_one_replicate_that_carries_everything() -> None:
    evidence = replicates(-INF, -4.0, -INF, -INF)
    assert evidence.value() == pytest.approx(-4 - math.log(4))
    assert evidence.stderr() == INF
    assert evidence.interval(0.95) == (-INF, 0.0)
    assert -INF < evidence.lower_bound(0.01) < evidence.value()


def wealth(z: np.ndarray, p: np.ndarray) -> np.ndarray:
    """The second bound's martingale at each p, as it is written down and nothing else."""
    return np.mean([np.prod(1 - bet + bet * z / p[:, None], axis=1) for bet in 0.5 ** np.arange(10)], axis=0)


@pytest.mark.parametrize("delta", [0.5, 0.05, 0.001])
@pytest.mark.parametrize(
    "log_z",
    [
        lognormal(32, 0.1).log_estimates,
        lognormal(8, 2.0).log_estimates,
        (*lognormal(30, 0.3).log_estimates, -INF, -INF),
        (-3.0, -INF, -INF, -INF, -2.0),
        (-3.0, -40.0, -3.1, -2.9),
    ],
    ids=["mild", "wild", "some zero", "mostly zero", "one tiny"],
)
def test_lower_bound_is_the_larger_of_its_two_forms(log_z: tuple[float, ...], delta: float) -> None:
    z, step = np.exp(log_z), 1e-3
    product = np.mean(log_z) + math.log(delta / 2) / len(z)
    grid = np.arange(-20.0, 0.0, step)
    betting = grid[wealth(z, np.exp(grid)) >= 2 / delta].max(initial=-INF)
    expected = min(max(product, betting), 0.0)
    assert -step < expected - Replicates(log_estimates=log_z).lower_bound(delta) < step


def test_each_form_of_the_lower_bound_wins_somewhere() -> None:
    """So that the test above compares both."""
    mild, zeros = lognormal(32, 0.1), replicates(-3, -3, -INF)
    assert mild.lower_bound(0.05) == pytest.approx(np.mean(mild.log_estimates) + math.log(0.025) / 32, abs=1e-12)
    assert zeros.lower_bound(0.05) > -INF


@pytest.mark.parametrize(("hit", "repetitions"), [(1.0, 500), (0.6, 500)], ids=["lognormal", "lognormal or zero"])
def test_lower_bound_holds_as_often_as_it_says(hit: float, repetitions: int) -> None:
    """Ẑ_r is lognormal with probability ``hit`` and zero otherwise, with mean P."""
    log_p, sigma, count, delta = -3.0, 0.8, 6, 0.2
    rng = np.random.default_rng(7)
    log_z = log_p - math.log(hit) - sigma**2 / 2 + sigma * rng.standard_normal((repetitions, count))
    log_z[rng.random((repetitions, count)) >= hit] = -INF
    failures = sum(replicates(*row).lower_bound(delta) > log_p for row in log_z)
    assert failures <= repetitions * delta + 4 * math.sqrt(repetitions * delta * (1 - delta))
    # The bound is no formality: a bound a nat or two higher would fail.
    naive = sum(replicates(*row).value() > log_p for row in log_z)
    assert naive > repetitions * delta + 4 * math.sqrt(repetitions * delta * (1 - delta))


@pytest.mark.parametrize(("hits", "draws"), [(3, 10), (1, 1000), (999, 1000), (500, 1000)])
def test_counts_agree_with_scipys_exact_binomial(hits: int, draws: int) -> None:
    evidence = Counts(hits=hits, draws=draws)
    two_sided = binomtest(hits, draws).proportion_ci(0.95, method="exact")
    one_sided = binomtest(hits, draws, alternative="greater").proportion_ci(0.99, method="exact")
    assert evidence.value() == pytest.approx(math.log(hits / draws))
    assert evidence.interval(0.95) == pytest.approx((math.log(two_sided.low), math.log(two_sided.high)), rel=1e-9)
    assert evidence.lower_bound(0.01) == pytest.approx(math.log(one_sided.low), rel=1e-9)


def test_counts_standard_error_is_that_of_the_log_of_a_frequency() -> None:
    frequencies = np.random.default_rng(0).binomial(1000, 0.2, size=20_000) / 1000
    assert Counts(hits=200, draws=1000).stderr() == pytest.approx(np.log(frequencies).std(), rel=0.03)


def test_counts_without_hits_and_with_nothing_else() -> None:
    none, all_of_them = Counts(hits=0, draws=100), Counts(hits=100, draws=100)
    assert (none.value(), none.stderr(), none.lower_bound(0.01)) == (-INF, INF, -INF)
    assert none.interval(0.95) == (-INF, pytest.approx(math.log1p(-(0.025**0.01))))
    assert (all_of_them.value(), all_of_them.stderr()) == (0.0, 0.0)
    assert all_of_them.interval(0.95) == (pytest.approx(math.log(0.025) / 100), 0.0)


def test_exact_evidence_has_no_error() -> None:
    evidence = Exact(log_p=-3.0)
    assert (evidence.value(), evidence.stderr(), evidence.interval(0.95), evidence.lower_bound(1e-9)) == (
        -3.0,
        0.0,
        (-3.0, -3.0),
        -3.0,
    )


@pytest.mark.parametrize("evidence", [lognormal(4, 1.0), Counts(hits=3, draws=10), Exact(log_p=-1.0)])
@pytest.mark.parametrize("wrong", [0.0, 1.0, 2.0, -0.5, math.nan])
def test_levels_that_are_no_probabilities_are_refused(evidence: Replicates | Counts | Exact, wrong: float) -> None:
    estimate = Estimate(value=-1.0, stderr=0.1, n=3, method="smc", evidence=evidence)
    with pytest.raises(InvalidInput, match="delta"):
        estimate.lower_bound(wrong)
    with pytest.raises(InvalidInput, match="level"):
        estimate.interval(wrong)


def test_an_estimate_without_evidence_says_nothing_of_its_error() -> None:
    estimate = Estimate(value=-3.0, stderr=None, n=3, method="ep")
    assert estimate.interval() is None
    assert estimate.lower_bound() is None


def test_an_estimate_survives_json_infinities_included() -> None:
    estimate = Estimate(
        value=-INF,
        stderr=INF,
        n=3,
        method="smc",
        status="no-hits",
        message="nothing",
        diagnostics={"effective_sample_size": 0.0, "pareto_k": None},
        seconds=0.25,
        evidence=replicates(-INF, -INF),
    )
    text = estimate.model_dump_json()
    assert '"value":"-Infinity"' in text
    assert Estimate.model_validate_json(text) == estimate


def test_estimates_are_written_with_unit_error_and_status() -> None:
    estimate = Estimate(value=-163.81, stderr=0.0213, n=1000, method="smc", status="heavy-tailed")
    assert str(estimate) == "log P = -163.81 ± 0.021 nats (smc, n = 1000) [heavy-tailed]"


def test_a_certain_bound_cuts_off_what_lies_under_it() -> None:
    free = lognormal(16, 0.5)
    low, high = free.interval(0.9)
    for certain in (low - 1, (low + high) / 2, high + 0.01):
        evidence = Replicates(log_estimates=free.log_estimates, certain=certain)
        assert evidence.value() == free.value()
        assert evidence.stderr() == free.stderr()
        assert evidence.interval(0.9) == ((max(low, certain), high) if certain < high else (certain, 0.0))
        assert evidence.lower_bound(0.01) == max(certain, free.lower_bound(0.01))


def test_a_certain_bound_survives_replicates_that_are_all_zero() -> None:
    nothing = Replicates(log_estimates=(-INF, -INF), certain=-5.0)
    assert nothing.lower_bound(0.01) == -5.0
    assert nothing.interval(0.95) == (-5.0, 0.0)


def test_equality_ignores_time_and_diagnostics() -> None:
    fields = {"value": -3.0, "stderr": 0.1, "n": 5, "method": "smc", "evidence": replicates(-3.0, -3.1)}
    one, other = Estimate(**fields, seconds=1.0, diagnostics={"sweeps": 3}), Estimate(**fields)
    assert one == other
    assert len({one, other}) == 1
    assert float(one) == one.log_p == -3.0
    for changed in ({"value": -3.1}, {"status": "rounding"}, {"evidence": replicates(-3.0, -3.2)}):
        assert one != Estimate(**{**fields, **changed})


def test_interval_of_an_estimate_is_its_evidences_wider_by_rounding() -> None:
    evidence = replicates(-3.0, -3.1, -2.9)
    estimate = Estimate(value=evidence.value(), stderr=0.1, n=5, method="smc", evidence=evidence)
    low, high = evidence.interval(0.9)
    assert low < estimate.value < high
    assert estimate.interval(0.9) == (low, high)
    rounding = 0.2
    wider = 1.6448536269514722 * rounding
    below, above = estimate.model_copy(update={"rounding": rounding}).interval(0.9)
    assert estimate.value - below == pytest.approx(math.hypot(estimate.value - low, wider), rel=1e-12)
    assert above - estimate.value == pytest.approx(math.hypot(high - estimate.value, wider), rel=1e-12)
