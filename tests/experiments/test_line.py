"""Lines through log probabilities and counts, and verdicts on constructed counts."""

import math
from pathlib import Path

import numpy as np
import pytest

from nngp_prior.experiments import FrequencyStudy
from nngp_prior.experiments.frequencies.analysis import sentence, summary, verdicts
from nngp_prior.experiments.frequencies.line import fit_line
from nngp_prior.experiments.grid import settings_of
from nngp_prior.schemas.frequencies import FrequencyProtocol

PROTOCOL = {
    "kind": "frequencies",
    "name": "constructed",
    "data": {"dataset": {"kind": "boolean", "bits": 7}},
    "quantities": ["log-p", "lempel-ziv"],
    "statistics": {"resamples": 100},
}


def constructed(slope: float, bias: float, scatter: float, networks: int, functions: int = 200) -> FrequencyStudy:
    """Study of functions whose log frequencies are a line in log P with scatter; ``bias`` at the mean of log P."""
    rng = np.random.default_rng(functions)
    log_p = rng.uniform(-9, -4, functions)
    y = log_p.mean() - bias + slope * (log_p - log_p.mean()) + scatter * rng.standard_normal(functions)
    rows = tuple(
        {"setting": 0, "count": int(k), "networks": networks, "log_p": float(x), "log_p.stderr": 0.0}
        | {"lempel_ziv": float(-x), "lempel_ziv.stderr": None}
        for x, k in zip(log_p, rng.poisson(networks * np.exp(y)), strict=True)
    )
    protocol = FrequencyProtocol.model_validate(PROTOCOL)
    return FrequencyStudy(protocol, tuple(settings_of(protocol)), Path(), ({},), rows, ())


def test_a_line_without_errors_is_found_exactly() -> None:
    x = np.linspace(-9, -3, 20)
    slope, bias, scatter = fit_line(x, 0.5 + 1.2 * x, np.full(20, 1e-4))
    assert slope == pytest.approx(1.2)
    assert bias == pytest.approx(np.mean(x - 0.5 - 1.2 * x))
    assert scatter == 0


def test_equal_variances_give_ordinary_least_squares() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(50)
    y = 2 * x + 0.5 * rng.standard_normal(50)
    found = fit_line(x, y, np.full(50, 1e-6))
    slope, intercept = np.polyfit(x, y, 1)
    assert found.slope == pytest.approx(slope)
    assert found.scatter**2 == pytest.approx(np.sum((y - intercept - slope * x) ** 2) / 48, rel=1e-4)


def test_lines_through_too_few_points_are_undefined() -> None:
    assert all(map(math.isnan, fit_line(np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.ones(2))))
    assert all(map(math.isnan, fit_line(np.ones(5), np.arange(5.0), np.ones(5))))


@pytest.mark.parametrize(
    ("slope", "bias", "scatter", "networks"),
    [(1.0, 0.0, 0.0, 10**7), (1.0, -0.35, 0.05, 10**6), (0.6, 0.2, 0.5, 10**5), (1.4, -0.1, 0.3, 50_000)],
)
def test_constructed_slopes_and_biases_are_within_their_intervals(
    slope: float, bias: float, scatter: float, networks: int
) -> None:
    """In the last case the rarest functions are expected twice."""
    study = constructed(slope, bias, scatter, networks)
    found = verdicts(study)[0]
    assert found.name == "log_p"
    for truth, (value, low, high) in ((slope, found.slope), (bias, found.bias)):
        assert low <= value <= high
        width = high - low
        assert low - 0.5 * width <= truth <= high + 0.5 * width
        assert width < 0.35
    assert found.scatter.value == pytest.approx(scatter, abs=0.02 + 0.25 * scatter)


def test_counting_alone_explains_the_order_of_exact_probabilities() -> None:
    exact, other = (verdicts(constructed(1.0, 0.0, s, 3000))[0] for s in (0.0, 1.5))
    assert exact.kendall.value == pytest.approx(exact.attainable, abs=0.03)
    assert exact.attainable < 0.9
    assert other.kendall.value < other.attainable - 0.1
    assert exact.total_p == pytest.approx(exact.total_frequency, rel=0.05)


def test_complexity_has_a_negative_sign_and_no_slope() -> None:
    study = constructed(1.0, -0.3, 0.1, 10**6)
    by_p, by_complexity = verdicts(study)
    assert by_complexity.kendall.value == pytest.approx(-by_p.kendall.value)
    assert math.isnan(by_complexity.slope.value)
    assert "simpler functions are more frequent" in sentence(by_complexity, trained=False)
    assert "0.3" in sentence(by_p, trained=False)
    assert "below log frequency" in sentence(by_p, trained=False)
    assert "slope 1.0" in summary([by_p, by_complexity], trained=False)[0]
