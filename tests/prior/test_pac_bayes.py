import math

import numpy as np
import pytest

from nngp_prior import pac_bayes_bound
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.estimate import Counts, Estimate, Exact, Replicates


def exact(log_p: float, m: int = 100) -> Estimate:
    return Estimate(value=log_p, stderr=0.0, n=m, method="closed-form", evidence=Exact(log_p=log_p))


@pytest.mark.parametrize(("log_p", "m", "delta"), [(-10.0, 100, 0.05), (-160.0, 1000, 0.01), (math.log(0.5), 1, 0.5)])
def test_is_the_formula(log_p: float, m: int, delta: float) -> None:
    """-ln(1 - ε) ≤ (ln 1/P + ln 2/δ)/m, half of δ being the estimator's."""
    bound = pac_bayes_bound(exact(log_p, m), delta)
    assert -math.log1p(-bound.value) == pytest.approx((-log_p + math.log(2 / delta)) / m, rel=1e-12)
    assert (bound.delta, bound.m, bound.log_p_lower) == (delta, m, log_p)


@pytest.mark.parametrize("evidence", [Replicates(log_estimates=(-9.0, -10.0, -11.0)), Counts(hits=2, draws=10_000)])
def test_takes_the_lower_bound_and_not_the_value(evidence: Replicates | Counts) -> None:
    estimate = Estimate(value=evidence.value(), stderr=evidence.stderr(), n=50, method="smc", evidence=evidence)
    lower = evidence.lower_bound(0.05)
    assert lower < evidence.value() - 0.5
    bound = pac_bayes_bound(estimate, 0.1)
    assert bound.log_p_lower == lower
    assert bound.value == pytest.approx(1 - math.exp((lower + math.log(0.05)) / 50), rel=1e-12)


def test_grows_with_confidence_and_with_surprise() -> None:
    by_delta = [pac_bayes_bound(exact(-10.0), delta).value for delta in (0.5, 0.1, 0.01, 1e-6)]
    by_log_p = [pac_bayes_bound(exact(log_p)).value for log_p in (0.0, -1.0, -100.0, -1e6)]
    assert by_delta == sorted(set(by_delta))
    assert by_log_p == sorted(set(by_log_p))
    assert 0 < by_log_p[0] < by_log_p[-1] == 1.0


def test_says_nothing_where_nothing_is_known_of_p() -> None:
    bound = pac_bayes_bound(exact(-math.inf))
    assert (bound.value, bound.log_p_lower) == (1.0, -math.inf)


def test_ep_gives_no_bound() -> None:
    with pytest.raises(InvalidInput, match="estimate: ep gives no lower bound"):
        pac_bayes_bound(Estimate(value=-10.0, stderr=None, n=100, method="ep"))


@pytest.mark.parametrize("delta", [0.0, 1.0, 2.0, -0.1, math.nan])
def test_delta_is_a_probability(delta: float) -> None:
    with pytest.raises(InvalidInput, match="delta: got"):
        pac_bayes_bound(exact(-10.0), delta)


def test_holds_as_often_as_it_says() -> None:
    """Eight equally probable functions on eight points, each wrong on one of them; training sets of 18 points."""
    m, delta, repetitions = 18, 0.2, 2000
    rng = np.random.default_rng(0)
    failures = {"bound": 0, "without P": 0, "without δ": 0}
    for _ in range(repetitions):
        consistent = 8 - len(np.unique(rng.integers(0, 8, m)))
        log_p = math.log(consistent / 8) if consistent else -math.inf
        error = 1 / 8 if consistent else 0.0
        failures["bound"] += error > pac_bayes_bound(exact(log_p, m), delta).value
        failures["without P"] += error > 1 - (delta / 2) ** (1 / m)
        failures["without δ"] += error > 1 - math.exp(log_p / m)
    allowed = repetitions * delta + 4 * math.sqrt(repetitions * delta * (1 - delta))
    assert failures["bound"] <= allowed
    # Neither of its terms can be left out.
    assert min(failures["without P"], failures["without δ"]) > allowed
