import math

import numpy as np
import pytest

from nngp_prior.errors import InvalidInput
from nngp_prior.progress import ignore
from nngp_prior.schemas.measures.gradients import GradientDiversity, GradientNoiseScale, GradientStiffness
from nngp_prior.sharpness import measure
from nngp_prior.sharpness.measurement import measure_risk
from nngp_prior.sharpness.measures import gradient_coherence as agreement
from nngp_prior.sharpness.measures.gradient_coherence import gradient_noise_scale, gradient_stiffness, jackknife
from nngp_prior.sharpness.measures.registry import MeasureOutcome
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from tests.sharpness.cases import LINEAR, data, dense_gradients, linear, small

KINDS = ("", "[same label]", "[different labels]")
PROBLEMS = {
    "cross-entropy": small,
    "mse": lambda: linear(*data(20, 5), np.ones(5), chunk=8),
    "float32": lambda: linear(*data(20, 5), np.ones(5), dtype="float32", chunk=8),
}


def stiffness(risk: EmpiricalRisk, seed: int = 0, **options) -> MeasureOutcome:
    return gradient_stiffness(risk, GradientStiffness(**options), seed, ignore)


def by_definition(risk: EmpiricalRisk) -> dict[str, float]:
    G, y = dense_gradients(risk), np.asarray(risk.y)
    C = G @ G.T / np.outer(*[np.linalg.norm(G, axis=1)] * 2)
    apart, same = ~np.eye(len(y), dtype=bool), y[:, None] == y[None]
    values = {}
    for kind, chosen in zip(KINDS, (apart, apart & same, ~same), strict=True):
        values[f"gradient_stiffness{kind}"] = C[chosen].mean()
        values[f"gradient_stiffness_sign{kind}"] = np.sign(C[chosen]).mean()
    mean = G.mean(axis=0)
    values["gradient_diversity"] = (G**2).sum() / (G.sum(axis=0) ** 2).sum()
    values["gradient_noise_scale"] = ((G - mean) ** 2).sum(axis=1).mean() / (mean @ mean)
    return values


@pytest.mark.parametrize("name", PROBLEMS)
def test_all_are_the_definitions(name: str) -> None:
    """Examples in three chunks, hence gradients in three blocks."""
    risk = PROBLEMS[name]()
    measures = [GradientStiffness(), GradientDiversity(), GradientNoiseScale()]
    report = measure_risk(risk, measures, 0)
    expected = by_definition(risk)
    assert {each.name for each in report.values()} == set(expected)
    for each in report.values():
        assert each.value == pytest.approx(expected[each.name], rel=1e-3 if name == "float32" else 1e-9, abs=1e-12)
        assert (each.status, each.stderr) == ("ok", None)
    n = risk.n
    assert expected["gradient_noise_scale"] == pytest.approx(n * expected["gradient_diversity"] - 1)


def test_blocks_are_as_large_as_memory_lets_them_be(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = data(23, 4)
    risk = linear(X, y, np.ones(4))
    whole = stiffness(risk)
    assert whole.gradients == 1
    events = []
    monkeypatch.setattr(agreement, "_BYTES", 5 * 4 * 8)
    parts = gradient_stiffness(risk, GradientStiffness(), 0, events.append)
    for one, other in zip(whole.quantities, parts.quantities, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-12)
    assert events[-1].done == events[-1].total == 15
    assert parts.gradients == 15 * 5 / 23


def test_of_some_examples_it_has_a_standard_error() -> None:
    X, y = data(300, 4)
    risk = linear(X, y, np.full(4, 0.3), "cross-entropy")
    expected = by_definition(risk)
    scores = []
    for seed in range(20):
        quantities = stiffness(risk, seed, examples=100).quantities
        scores.append([(each.value - expected[each.name]) / each.stderr for each in quantities])
        assert quantities[0].diagnostics["examples"] == 100
    assert np.abs(np.mean(scores, axis=0)).max() < 4 / math.sqrt(20)
    assert 0.6 < np.std(scores, axis=0).min() < np.std(scores, axis=0).max() < 1.7
    assert stiffness(risk, examples=400).quantities == stiffness(risk, examples="all").quantities


def test_the_jackknife_is_calibrated() -> None:
    """Of a mean over pairs of which one factor is the label's, among 100 examples of 400."""
    rng = np.random.default_rng(0)
    g = rng.standard_normal((400, 3)) + np.array([0.5, 0, 0])
    y = np.where(rng.random(400) < 0.3, -1, 1)
    g /= np.linalg.norm(g, axis=1, keepdims=True)
    same = (y[:, None] == y[None]) & ~np.eye(400, dtype=bool)
    C = g @ g.T * same
    exact = C.sum() / same.sum()
    scores = []
    for _ in range(300):
        rows = rng.choice(400, 100, replace=False)
        total, number = (A[np.ix_(rows, rows)].sum(axis=1) for A in (C, same.astype(float)))
        scores.append((total.sum() / number.sum() - exact) / (jackknife(total, number) * math.sqrt(1 - 100 / 400)))
    assert abs(np.mean(scores)) < 4 / math.sqrt(300)
    assert np.std(scores) == pytest.approx(1, abs=4 / math.sqrt(600))


def test_the_noise_scale_of_a_population_is_estimated_without_its_bias() -> None:
    """Squared errors of θ·x at θ = 0: gradients -2 y x, with x of mean (1, 0, 0) and variance 1 each, y = 1: B = 3."""
    rng = np.random.default_rng(1)
    scores, of_data = [], []
    for _ in range(150):
        X = rng.standard_normal((200, 3)) + np.array([1, 0, 0])
        risk = linear(X, np.ones(200), np.zeros(3))
        (found,) = gradient_noise_scale(risk, GradientNoiseScale(of="population"), 0, ignore).quantities
        (biased,) = gradient_noise_scale(risk, GradientNoiseScale(), 0, ignore).quantities
        scores.append((found.value - 3) / found.stderr)
        of_data.append(biased.value)
        m = X.mean(axis=0)
        trace = X.var(axis=0, ddof=1).sum()
        assert found.value == pytest.approx(trace / (m @ m - trace / 200), rel=1e-10)
    # The ratio's own bias, of the order 1/n, is a tenth of a standard error.
    assert abs(np.mean(scores)) < 4 / math.sqrt(150) + 0.1
    assert np.std(scores) == pytest.approx(1, abs=4 / math.sqrt(300))


def test_a_population_without_a_gradient_is_told() -> None:
    X = np.random.default_rng(2).standard_normal((20, 3))
    X[10:] = -X[:10] + 1e-3
    risk = linear(X, np.ones(20), np.zeros(3))
    report = measure_risk(risk, [GradientNoiseScale(of="population")], 0)
    assert report["gradient_noise_scale"].status == "degenerate"
    assert "more data" in report["gradient_noise_scale"].message


def test_zero_gradients_are_told() -> None:
    X, y = data(12, 5)
    measures = [GradientStiffness(), GradientDiversity(), GradientNoiseScale()]
    none = measure_risk(linear(0 * X, y, np.ones(5)), measures, 0).measurements
    assert {each.status for each in none} == {"zero-gradient"}
    assert all(math.isnan(each.value) for each in none)
    some = linear(np.where(np.arange(12)[:, None] < 3, 0, X), y, np.ones(5))
    G = dense_gradients(some)[3:]
    C = G @ G.T / np.outer(*[np.linalg.norm(G, axis=1)] * 2)
    report = measure_risk(some, measures, 0)
    assert report["gradient_stiffness"].status == "zero-gradient"
    assert report["gradient_stiffness"].message.startswith("3 of 12 examples have a zero gradient")
    assert report["gradient_stiffness"].value == pytest.approx((C.sum() - 9) / 12 / 11)
    assert report["gradient_diversity"].status == "ok"


def test_a_mean_gradient_of_rounding_is_zero() -> None:
    """At the least squares, where those of the examples are not."""
    X, y = data(12, 5)
    theta = np.linalg.lstsq(X, y, rcond=None)[0]
    for each in measure_risk(linear(X, y, theta), [GradientDiversity(), GradientNoiseScale()], 0).measurements:
        assert each.status == "zero-gradient"
        assert "rounding" in each.message


def test_gradients_whose_squares_underflow_are_no_zeros() -> None:
    """Cross-entropy of outputs near 500: ℓ' is e⁻⁵⁰⁰."""
    X = np.random.default_rng(3).standard_normal((6, 4))
    X[:, 0] = 500
    y = np.ones(6)
    report = measure_risk(linear(X, y, np.eye(4)[0], "cross-entropy"), [GradientDiversity(), GradientStiffness()], 0)
    assert report["gradient_diversity"].value == pytest.approx((X**2).sum() / (X.sum(axis=0) ** 2).sum(), rel=1e-10)
    assert report["gradient_stiffness"].status == "ok"
    assert report["gradient_stiffness"].value == pytest.approx(1, abs=1e-3)


def test_labels_of_one_kind_have_no_pairs_that_differ() -> None:
    X, _ = data(6, 4)
    quantities = {each.name: each for each in stiffness(linear(X, np.ones(6), np.ones(4))).quantities}
    assert quantities["gradient_stiffness[different labels]"].status == "degenerate"
    assert quantities["gradient_stiffness[same label]"].value == quantities["gradient_stiffness"].value


@pytest.mark.parametrize("specification", [GradientStiffness(), GradientNoiseScale(of="population")])
def test_one_example_is_too_few(specification) -> None:
    with pytest.raises(InvalidInput, match=r"^data: have 1 example"):
        measure(LINEAR, np.ones(4), *data(1, 4), [specification])
