import math
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nngp_prior import clean_error_flipped, clean_error_randomised, log_probability, pac_bayes_bounds
from nngp_prior.data.complexity.formulas import smallest_formulas
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.results.estimate import Approximate, Counts, Estimate, Exact, Replicates
from tests.cases import equicorrelated

NAMES = ["realizable", "maurer", "langford-seeger", "valle-perez-camargo-louis", "mcallester", "valle-perez-louis"]


def exact(log_p: float, m: int = 100) -> Estimate:
    return Estimate(value=log_p, stderr=0.0, n=m, method="closed-form", evidence=Exact(log_p=log_p))


@pytest.mark.parametrize(("log_p", "m", "delta"), [(-10.0, 100, 0.05), (-160.0, 1000, 0.01), (-0.5, 8, 0.5)])
def test_are_the_formulas(log_p: float, m: int, delta: float) -> None:
    L, gamma = -log_p, 0.1
    expected = {
        "realizable": 1 - math.exp(-(L + math.log(1 / delta)) / m),
        "maurer": 1 - math.exp(-(L + math.log(2 * math.sqrt(m) / delta)) / m),
        "langford-seeger": 1 - math.exp(-(L + math.log(2 * m / delta)) / (m - 1)),
        "valle-perez-camargo-louis": 1 - math.exp(-(L + 2 * math.log(m) + 1 + math.log(1 / delta)) / m),
        "mcallester": min(1, (L + 2 * math.log(m) + 1 + math.log(1 / delta)) / m),
        "valle-perez-louis": 1 - math.exp(-(L + math.log(m) + math.log(1 / delta) + math.log(1 / gamma)) / (m - 1)),
    }
    found = pac_bayes_bounds(exact(log_p, m), delta, gamma=gamma)
    assert list(found) == list(expected) == NAMES
    for name, bound in found.items():
        assert bound.value == pytest.approx(expected[name], rel=1e-12)
        assert (bound.name, bound.m, bound.log_p, bound.is_bound) == (name, m, log_p, True)
        assert (bound.delta, bound.delta_estimator) == (delta, 0.0)
        assert bound.gamma == (gamma if name == "valle-perez-louis" else None)
        assert bound.reference
        assert bound.conditions
    assert "one function drawn" in found["valle-perez-louis"].bounds
    assert "mean error" in found["maurer"].bounds
    assert found["valle-perez-louis"].failure == pytest.approx(delta + gamma)


@given(
    L=st.floats(0, 1e4),
    m=st.integers(1, 10_000),
    delta=st.floats(1e-9, 0.999),
    gamma=st.floats(1e-9, 0.999),
)
def test_none_is_below_the_realizable_one_nor_above_1(L: float, m: int, delta: float, gamma: float) -> None:
    found = {name: bound.value for name, bound in pac_bayes_bounds(exact(-L, m), delta, gamma=gamma).items()}
    assert 0 <= found["realizable"] == min(found.values()) <= max(found.values()) <= 1
    assert found["maurer"] <= found["langford-seeger"]


@pytest.mark.parametrize("evidence", [Replicates(log_estimates=(-9.0, -10.0, -11.0)), Counts(hits=2, draws=10_000)])
def test_take_the_lower_bound_and_not_the_value(evidence: Replicates | Counts) -> None:
    estimate = Estimate(value=evidence.value(), stderr=evidence.stderr(), n=50, method="smc", evidence=evidence)
    bound = pac_bayes_bounds(estimate, 0.1, estimator_share=0.3)["realizable"]
    assert bound.log_p == evidence.lower_bound(0.03) < evidence.value() - 0.5
    assert (bound.delta, bound.delta_estimator) == (pytest.approx(0.07), pytest.approx(0.03))
    assert bound.failure == pytest.approx(0.1)
    assert bound.value == pytest.approx(1 - math.exp((bound.log_p + math.log(0.07)) / 50), rel=1e-12)


def test_grow_with_confidence_and_with_surprise() -> None:
    by_delta = [pac_bayes_bounds(exact(-10.0), delta)["realizable"].value for delta in (0.5, 0.1, 0.01, 1e-6)]
    by_log_p = [pac_bayes_bounds(exact(log_p))["realizable"].value for log_p in (0.0, -1.0, -100.0, -1e6)]
    assert by_delta == sorted(set(by_delta))
    assert by_log_p == sorted(set(by_log_p))
    assert 0 < by_log_p[0] < by_log_p[-1] == 1.0


@pytest.mark.parametrize("estimate", [exact(-math.inf), exact(-1e9, 1)])
def test_say_nothing_where_nothing_is_known(estimate: Estimate) -> None:
    assert {bound.value for bound in pac_bayes_bounds(estimate).values()} == {1.0}


def test_one_example_says_something_only_without_m_minus_1() -> None:
    found = pac_bayes_bounds(exact(math.log(0.9), 1), 0.5)
    assert found["realizable"].value == pytest.approx(0.55)
    assert found["langford-seeger"].value == found["valle-perez-louis"].value == 1.0


def test_weights_that_are_no_numbers_say_nothing() -> None:
    broken = Replicates(log_estimates=(math.nan, -1.0))
    estimate = Estimate(value=math.nan, stderr=math.nan, n=9, method="smc", evidence=broken)
    assert pac_bayes_bounds(estimate)["realizable"].value == 1.0


@pytest.mark.parametrize("evidence", [None, Approximate(log_p=-10.0, standard_error=0.1, freedom=9)])
def test_without_a_rigorous_lower_bound_nothing_is_a_bound(evidence: Approximate | None) -> None:
    estimate = Estimate(value=-10.0, stderr=None, n=100, method="ep", evidence=evidence)
    for name, bound in pac_bayes_bounds(estimate, 0.05).items():
        assert not bound.is_bound
        assert (bound.log_p, bound.delta, bound.delta_estimator) == (-10.0, 0.05, 0.0)
        assert any(condition.startswith("not a bound: ep has no") for condition in bound.conditions)
        assert bound.value == pac_bayes_bounds(exact(-10.0), 0.05)[name].value
        assert "not a bound" in str(bound)
    assert "with probability 0.95" in str(pac_bayes_bounds(exact(-10.0))["realizable"])


def test_ep_above_1_is_not_taken_at_its_word() -> None:
    estimate = Estimate(value=0.5, stderr=None, n=100, method="ep")
    assert pac_bayes_bounds(estimate)["realizable"].log_p == 0.0


@pytest.mark.parametrize(
    ("method", "options"),
    [
        *((method, {"noise_variance": 0.5}) for method in ("smc", "ghk", "bernstein-yue", "sampling", "closed-form")),
        *((method, {"noise_variance": 0.5}) for method in ("ep", "ep2", "laplace")),
        ("smc", {"jitter": 0.25}),
    ],
)
def test_of_k_plus_ci_are_for_that_prior_and_say_so(method: str, options: dict[str, float]) -> None:
    estimate = log_probability(2 * equicorrelated(4, 0.5), [1, 1, -1, 1], method=method, **options)
    assert estimate.diagonal_shift == 0.5
    bound = pac_bayes_bounds(estimate)["realizable"]
    assert bound.diagonal_shift == 0.5
    assert any("K + cI, c = 0.5" in condition for condition in bound.conditions)


def test_of_k_itself_add_nothing() -> None:
    estimate = log_probability(equicorrelated(4, 0.5), [1, 1, -1, 1])
    bound = pac_bayes_bounds(estimate)["realizable"]
    assert estimate.diagonal_shift == bound.diagonal_shift == 0.0
    assert not any("cI" in condition for condition in bound.conditions)


@pytest.mark.parametrize("value", [0.0, 1.0, 2.0, -0.1, math.nan])
@pytest.mark.parametrize("name", ["delta", "gamma", "estimator_share"])
def test_misuse(name: str, value: float) -> None:
    with pytest.raises(InvalidInput, match=f"{name}: got"):
        pac_bayes_bounds(exact(-10.0), **{name: value})


# All 256 functions of three bits, more probable the shorter their formula; inputs are not equally probable either.
INPUTS = np.array([0.3, 0.2, 0.15, 0.1, 0.1, 0.05, 0.05, 0.05])


class World:
    """What learning from m draws is in that world: P(S), the posterior, and true errors."""

    def __init__(self, target: int) -> None:
        self.values = (np.arange(256)[:, None] >> np.arange(8)) & 1
        self.prior = 2.0 ** -smallest_formulas(3).astype(float)
        self.prior /= self.prior.sum()
        self.target = self.values[target]
        self.error = (self.values != self.target) @ INPUTS

    def consistent(self, inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return (self.values[:, inputs] == labels).all(axis=1)


@lru_cache
def world(target: int) -> World:
    return World(target)


@pytest.mark.parametrize("target", [0, 0b11101000, 0b01101001])  # constant, majority, parity
def test_the_expectation_that_all_rests_on(target: int) -> None:
    """E_S[P(S) E_Q (1 - ε)^-m] = P(ε < 1), summed over all 8² training sets."""
    w, m, total = world(target), 2, 0.0
    for first in range(8):
        for second in range(8):
            inputs = np.array([first, second])
            mass = w.prior * w.consistent(inputs, w.target[inputs]) * (w.error < 1)
            total += INPUTS[inputs].prod() * float(mass @ np.where(w.error < 1, 1 - w.error, 1.0) ** -m)
    assert total == pytest.approx(w.prior[w.error < 1].sum(), rel=1e-12)


@pytest.mark.parametrize("target", [0, 0b11101000, 0b01101001])
def test_all_hold_as_often_as_they_say(target: int) -> None:
    w, delta, gamma, repetitions = world(target), 0.2, 0.2, 1500
    rng = np.random.default_rng(target)
    failures = dict.fromkeys([*NAMES, "realizable, draw"], 0)
    for _ in range(repetitions):
        inputs = rng.choice(8, size=int(rng.integers(1, 12)), p=INPUTS)
        posterior = w.prior * w.consistent(inputs, w.target[inputs])
        P = posterior.sum()
        posterior /= P
        mean, drawn = float(posterior @ w.error), w.error[rng.choice(256, p=posterior)]
        found = pac_bayes_bounds(exact(math.log(P), len(inputs)), delta, gamma=gamma)
        for name in NAMES[:-1]:
            failures[name] += mean > found[name].value
        failures["realizable, draw"] += drawn > found["realizable"].value
        failures["valle-perez-louis"] += drawn > found["valle-perez-louis"].value
    slack = 4 * math.sqrt(repetitions * delta)
    assert max(failures[name] for name in failures if name != "valle-perez-louis") <= repetitions * delta + slack
    assert failures["valle-perez-louis"] <= repetitions * (delta + gamma) + slack


def test_holds_no_more_often_than_it_must() -> None:
    """Eight equally probable functions on eight points, each wrong on one of them; training sets of 18 points."""
    m, delta, repetitions = 18, 0.2, 2000
    rng = np.random.default_rng(0)
    failures = {"bound": 0, "without P": 0, "without δ": 0}
    for _ in range(repetitions):
        consistent = 8 - len(np.unique(rng.integers(0, 8, m)))
        log_p = math.log(consistent / 8) if consistent else -math.inf
        error = 1 / 8 if consistent else 0.0
        failures["bound"] += error > pac_bayes_bounds(exact(log_p, m), delta)["realizable"].value
        failures["without P"] += error > 1 - delta ** (1 / m)
        failures["without δ"] += error > 1 - math.exp(log_p / m)
    allowed = repetitions * delta + 4 * math.sqrt(repetitions * delta * (1 - delta))
    assert failures["bound"] <= allowed
    # Neither of its terms can be left out.
    assert min(failures["without P"], failures["without δ"]) > allowed


def test_clean_errors_invert_what_corruption_does() -> None:
    w = world(0b11101000)
    for rho in (0.0, 0.1, 0.4):
        randomised = (1 - rho) * w.error + rho / 2
        flipped = (1 - rho) * w.error + rho * (1 - w.error)
        assert [clean_error_randomised(e, rho) for e in randomised] == pytest.approx(w.error.tolist())
        assert [clean_error_flipped(e, rho) for e in flipped] == pytest.approx(w.error.tolist())
    assert clean_error_randomised(0.04, 0.1) == clean_error_flipped(0.05, 0.1) == 0.0
    assert clean_error_randomised(1.0, 0.1) == clean_error_flipped(1.0, 0.1) == 1.0


@pytest.mark.parametrize("kind", ["randomise", "flip rate", "flip count"])
def test_a_bound_from_corrupted_labels_holds_for_the_clean_error(kind: str) -> None:
    w, delta, rho, repetitions, m = world(0b11101000), 0.2, 0.25, 1500, 8
    rng = np.random.default_rng(5)
    failures = said_something = 0
    for _ in range(repetitions):
        inputs = rng.choice(8, size=m, p=INPUTS)
        labels = w.target[inputs].copy()
        if kind == "randomise":
            labels = np.where(rng.random(m) < rho, rng.integers(0, 2, m), labels)
        elif kind == "flip rate":
            labels ^= rng.random(m) < rho
        else:
            labels[rng.permutation(m)[: int(rho * m)]] ^= 1
        posterior = w.prior * w.consistent(inputs, labels)
        P = float(posterior.sum())
        if P == 0:  # contradictory labels: nothing is claimed
            continue
        value = pac_bayes_bounds(exact(math.log(P), m), delta)["realizable"].value
        clean = clean_error_randomised(value, rho) if kind == "randomise" else clean_error_flipped(value, rho)
        failures += float(posterior @ w.error) / P > clean
        said_something += clean < 1
    assert failures <= repetitions * delta + 4 * math.sqrt(repetitions * delta * (1 - delta))
    assert said_something > 100


def test_a_given_number_of_flips_keeps_the_expectation_below_1() -> None:
    """Σ over all training sets of 1(f consistent) (1 - ε̃)^-m, the first of two labels flipped: ≤ 1 for each f."""
    w, m, rho = world(0b11101000), 2, 0.5
    corrupted = (1 - rho) * w.error + rho * (1 - w.error)
    consistent = w.error * (1 - w.error)
    assert (consistent * (1 - corrupted) ** -m <= 1 + 1e-12).all()


@pytest.mark.parametrize(
    ("function", "error", "rho", "field"),
    [
        (clean_error_randomised, 0.3, 1.0, "probability"),
        (clean_error_randomised, 0.3, -0.1, "probability"),
        (clean_error_flipped, 0.3, 0.5, "rate"),
        (clean_error_flipped, 1.3, 0.1, "error"),
        (clean_error_randomised, math.nan, 0.1, "error"),
    ],
)
def test_corruption_misuse(function, error: float, rho: float, field: str) -> None:
    with pytest.raises(InvalidInput, match=f"{field}: got"):
        function(error, rho)
