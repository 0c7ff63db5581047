"""All estimators on matrices and labels that nobody chose, against SciPy's integration and closed forms."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from nngp_prior import log_probability
from nngp_prior.schemas.results.estimate import Estimate

_EP = {"precision": "float64", "tolerance": 1e-9, "max_sweeps": 500}
_ERRORS = 5  # standard errors, of Student's t with 31 degrees of freedom: one false alarm in 50,000

Case = tuple[np.ndarray, np.ndarray]

# The same examples on every run.
_few, _many, _most = (settings(derandomize=True, database=None, deadline=None, max_examples=k) for k in (4, 10, 25))
_SCIPY_ERROR = 3e-4  # of its cdf on nearly singular matrices, where the arcsines are right: 7e-5 has been seen


def _correlation(partial: np.ndarray) -> np.ndarray:
    """The correlation matrix whose Cholesky factor's rows have these spherical coordinates: all there are."""
    n = len(partial)
    L = np.eye(n)
    for i in range(1, n):
        rest = 1.0
        for j in range(i):
            L[i, j] = partial[i, j] * math.sqrt(rest)
            rest -= L[i, j] ** 2
        L[i, i] = math.sqrt(rest)
    return L @ L.T


@st.composite
def kernels(draw: st.DrawFn, smallest: int = 1, largest: int = 6) -> Case:
    """Correlations up to ±0.9999 (condition numbers up to 1e15), variances over six orders of magnitude; labels."""
    n = draw(st.integers(smallest, largest))
    close = st.sampled_from([-0.9999, -0.99, 0.0, 0.5, 0.99, 0.9999])
    coordinate = st.one_of(st.floats(-0.95, 0.95), close)
    partial = np.zeros((n, n))
    partial[np.tril_indices(n, -1)] = draw(st.lists(coordinate, min_size=n * (n - 1) // 2, max_size=n * (n - 1) // 2))
    deviation = np.array(draw(st.lists(st.floats(1e-3, 1e3), min_size=n, max_size=n)))
    labels = np.array(draw(st.lists(st.sampled_from([-1, 1]), min_size=n, max_size=n)))
    K = _correlation(partial) * np.outer(deviation, deviation)
    return (K + K.T) / 2, labels


def _by_scipy(K: np.ndarray, labels: np.ndarray) -> float:
    """P by Genz's algorithm with many points."""
    signed = K / np.sqrt(np.outer(K.diagonal(), K.diagonal())) * np.outer(labels, labels)
    distribution = multivariate_normal(np.zeros(len(K)), signed, allow_singular=True, seed=0)
    distribution.maxpts, distribution.abseps, distribution.releps = 60_000, 1e-6, 1e-6
    return float(distribution.cdf(np.zeros(len(K))))


def _exact(K: np.ndarray, labels: np.ndarray, **options: float) -> float:
    return log_probability(K, labels, method="closed-form", **options).value


def _agree(estimate: Estimate, truth: float, slack: float) -> bool:
    """Within the error bar where the estimate says it has one; the bound holds in any case."""
    assert estimate.stderr is not None
    bound = estimate.lower_bound(1e-6)
    assert bound is not None
    within = abs(estimate.value - truth) < _ERRORS * estimate.stderr + slack
    return bound < truth + slack and (within or estimate.status == "heavy-tailed")


@_many
@given(kernels(largest=3))
def test_smc_agrees_with_closed_forms(case: Case) -> None:
    assert _agree(log_probability(*case), _exact(*case), 1e-7)


@_many
@given(kernels(smallest=4))
def test_smc_agrees_with_scipy(case: Case) -> None:
    """SciPy's error is absolute: very small probabilities are left to the closed forms."""
    p = _by_scipy(*case)
    assume(p > 2e-3)
    assert _agree(log_probability(*case), math.log(p), _SCIPY_ERROR / p)


@_most
@given(kernels(smallest=2, largest=3))
def test_closed_form_is_the_sum_of_arcsines(case: Case) -> None:
    """1/4 + arcsin(ρ)/2π and 1/8 + Σ arcsin(ρ_ij)/4π, which lose digits near ±1 that the closed form keeps."""
    K, labels = case
    signed = K / np.sqrt(np.outer(K.diagonal(), K.diagonal())) * np.outer(labels, labels)
    arcsines = np.arcsin(signed[np.triu_indices(len(K), 1)]).sum()
    p = 0.25 + arcsines / (2 * math.pi) if len(K) == 2 else 0.125 + arcsines / (4 * math.pi)
    assert math.exp(_exact(*case)) == pytest.approx(p, abs=1e-7)


@_many
@given(kernels(smallest=2, largest=3))
def test_closed_form_agrees_with_scipy(case: Case) -> None:
    assert math.exp(_exact(*case)) == pytest.approx(_by_scipy(*case), abs=_SCIPY_ERROR)


@_most
@given(kernels(largest=3))
def test_ep_is_near_and_ep2_nearer_where_it_says_so(case: Case) -> None:
    truth = _exact(*case)
    ep2 = log_probability(*case, method="ep2", **_EP)
    assume("EP's last" not in ep2.message and ep2.status != "numerical-failure")
    assert abs(ep2.diagnostics["log_z_ep"] - truth) < 0.35
    assert abs(ep2.value - truth) < 0.25
    if ep2.status == "ok":
        assert abs(ep2.value - truth) < abs(ep2.diagnostics["correction"]) / 4 + 0.01


@_most
@given(kernels(largest=3), st.floats(0.5, 5.0))
def test_laplace_is_near_where_noise_is_not_small(case: Case, part: float) -> None:
    K, labels = case
    K = K / np.sqrt(np.outer(K.diagonal(), K.diagonal()))
    laplace = log_probability(K, labels, method="laplace", noise_variance=part)
    assert laplace.status == "ok"
    assert laplace.value == pytest.approx(_exact(K, labels, noise_variance=part), abs=0.12)


@_most
@given(kernels(largest=3))
def test_bernstein_yue_bounds_hold(case: Case) -> None:
    K, labels = case
    estimate = log_probability(K, labels, method="bernstein-yue", draws=256, jitter=1e-6)
    truth = _exact(K, labels, jitter=1e-6)
    bounds = estimate.diagnostics["c1"], estimate.diagnostics["c1_optimal_scale"], estimate.lower_bound(1e-6)
    assert bounds[0] - 1e-9 <= bounds[1] <= bounds[2]
    assert bounds[2] < truth + 1e-6


def _variants(K: np.ndarray, labels: np.ndarray) -> dict[str, Case]:
    """The same event, written in other ways."""
    n = len(labels)
    d = np.geomspace(1e-3, 1e3, n)
    order = np.roll(np.arange(n)[::-1], 1)
    sign = np.where(np.arange(n) == 0, -1, 1)
    twice = np.append(np.arange(n), 0)
    return {
        "each input scaled": (K * np.outer(d, d), labels),
        "inputs in another order": (K[np.ix_(order, order)], labels[order]),
        "an input negated with its label": (K * np.outer(sign, sign), labels * sign),
        "all labels flipped": (K, -labels),
        "an input twice": (K[np.ix_(twice, twice)], labels[twice]),
    }


@_few
@given(kernels(smallest=2))
def test_deterministic_estimators_see_only_the_event(case: Case) -> None:
    if len(case[0]) <= 3:
        reference = _exact(*case)
        for name, variant in _variants(*case).items():
            assert _exact(*variant) == pytest.approx(reference, rel=1e-6), name
    assume(np.linalg.eigvalsh(case[0] / np.sqrt(np.outer(case[0].diagonal(), case[0].diagonal())))[0] > 1e-6)
    for method in ("ep", "ep2"):
        reference = log_probability(*case, method=method, **_EP)
        assume(reference.diagnostics["ep_change"] < 1e-9)
        for name, variant in _variants(*case).items():
            value = log_probability(*variant, method=method, **_EP).value
            assert value == pytest.approx(reference.value, abs=1e-5), (method, name)
    reference = log_probability(*case, method="bernstein-yue", draws=2)
    for name, variant in _variants(*case).items():
        diagnostics = log_probability(*variant, method="bernstein-yue", draws=2).diagnostics
        assert diagnostics["c1_optimal_scale"] == pytest.approx(reference.diagnostics["c1_optimal_scale"]), name


@_few
@given(kernels(smallest=2))
def test_smc_sees_only_the_event(case: Case) -> None:
    reference = log_probability(*case)
    for name, variant in _variants(*case).items():
        other = log_probability(*variant)
        if {reference.status, other.status} <= {"ok"}:
            error = _ERRORS * math.hypot(reference.stderr or 0, other.stderr or 0)
            assert abs(other.value - reference.value) < error + 1e-6, name


@_many
@given(kernels(smallest=2, largest=5), st.floats(0.01, 10.0))
def test_laplace_sees_only_the_event(case: Case, part: float) -> None:
    """One factor for all: noise is the same for each input. An input twice is seen twice, with noise of its own."""
    K, labels = case
    K = K / np.sqrt(np.outer(K.diagonal(), K.diagonal()))
    reference = log_probability(K, labels, method="laplace", noise_variance=part).value
    variants = _variants(K, labels)
    for name in ("inputs in another order", "an input negated with its label", "all labels flipped"):
        value = log_probability(*variants[name], method="laplace", noise_variance=part).value
        assert value == pytest.approx(reference, abs=1e-9), name
    scaled = log_probability(1e4 * K, labels, method="laplace", noise_variance=1e4 * part).value
    assert scaled == pytest.approx(reference, abs=1e-9)
