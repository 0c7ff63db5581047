import math

import numpy as np
import pytest

from nngp_prior.errors import InvalidInput
from nngp_prior.progress import ignore
from nngp_prior.schemas.measures.curvature import Eigenvalues, FisherTrace, LogDeterminant, Trace
from nngp_prior.schemas.measures.gradients import GradientContrast, GradientDiversity
from nngp_prior.schemas.measures.registry import ContrastiveFlatness, measure_of
from nngp_prior.sharpness import measure
from nngp_prior.sharpness.measures.contrastive_flatness import contrastive_flatness, minibatches
from nngp_prior.sharpness.measures.registry import MeasureOutcome
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from tests.sharpness.cases import LINEAR, data, dense, dense_gradients, linear, small


def contrastive(risk: EmpiricalRisk, seed: int = 0, **options) -> MeasureOutcome:
    return contrastive_flatness(risk, ContrastiveFlatness(**{"batch": 5, **options}), seed, ignore)


def test_a_partition_takes_each_example_once() -> None:
    rows = minibatches(20, ContrastiveFlatness(batch=5), 1)
    assert sorted(np.concatenate(rows)) == list(range(20))
    assert [len(each) for each in minibatches(20, ContrastiveFlatness(batch=6), 1)] == [6, 6, 6]
    independent = minibatches(20, ContrastiveFlatness(batch=19, batches=7), 1)
    assert [len(set(each)) for each in independent] == [19] * 7


@pytest.mark.parametrize("batches", ["partition", 4])
def test_the_largest_eigenvalue_is_that_of_the_dense_matrices(batches: str | int) -> None:
    risk = small()
    specification = ContrastiveFlatness(batch=5, batches=batches)
    values = [np.linalg.eigvalsh(dense(risk.subset(rows)))[-1] for rows in minibatches(20, specification, 0)]
    whole = np.linalg.eigvalsh(dense(risk))[-1]
    outcome = contrastive(risk, batches=batches)
    difference, ratio = outcome.quantities
    assert (difference.name, ratio.name) == ("contrastive_lambda_max", "contrastive_lambda_max_ratio")
    assert difference.status == ratio.status == "ok"
    assert difference.value == pytest.approx(np.mean(values) - whole, rel=1e-5)
    assert ratio.value == pytest.approx(np.mean(values) / whole, rel=1e-6)
    assert difference.stderr == pytest.approx(np.std(values, ddof=1) / 2, rel=1e-4)
    assert ratio.stderr == pytest.approx(difference.stderr / whole, rel=1e-4)
    assert difference.value > 0  # λ_max is convex


@pytest.mark.parametrize("of", [Trace(method="hutchinson", probes=3), FisherTrace(fisher="empirical", layer="each")])
def test_what_is_linear_in_the_loss_has_no_difference_over_a_partition(of) -> None:
    for each in contrastive(small(), of=of).quantities:
        assert each.value == pytest.approx(1 if each.name.endswith("_ratio") else 0, abs=1e-13)


def test_the_standard_error_is_that_over_minibatches() -> None:
    """The empirical Fisher trace is a mean over examples, hence its mean difference is 0."""
    X, y = data(30, 3)
    risk = linear(X, y, np.ones(3), chunk=40)
    of = FisherTrace(fisher="empirical")
    assert dense_gradients(risk).var() > 0
    scores = []
    for seed in range(16):
        difference, ratio = contrastive(risk, seed, batches=12, of=of).quantities
        assert (ratio.value - 1) / ratio.stderr == pytest.approx(difference.value / difference.stderr, rel=1e-6)
        scores.append(difference.value / difference.stderr)
    assert abs(np.mean(scores)) < 4 / math.sqrt(len(scores))
    assert 0.7 < np.std(scores) < 1.5


def test_it_counts_the_gradients_of_all() -> None:
    outcome = contrastive(small(), of=Trace(method="hutchinson", probes=3))
    whole, minibatch = 2 * 3, 1 * 3  # several chunks; one, of which half a product is enough
    assert outcome.gradients == pytest.approx(whole + minibatch * 4 * 5 / 20)
    more = contrastive(small(), of=Trace(method="hutchinson", probes=3), batches=8)
    assert more.gradients == pytest.approx(whole + minibatch * 8 * 5 / 20)


def test_troubles_of_a_minibatch_are_told() -> None:
    difference, ratio = contrastive(small(), of=LogDeterminant(damping=0.05, probes=2, steps=30)).quantities
    assert difference.status == ratio.status == "indefinite"
    assert "raise the damping" in difference.message
    assert math.isnan(difference.value)
    X, y = data(20, 3)
    y[:5], X[:5] = 1, 0
    risk = linear(X, y, np.ones(3))
    seed = next(seed for seed in range(10**6) if _has(minibatches(20, ContrastiveFlatness(batch=2), seed)))
    difference, _ = contrastive(risk, seed, batch=2, of=GradientDiversity()).quantities
    assert difference.status == "zero-gradient"
    assert " of 10 minibatches: " in difference.message


def _has(rows: list[np.ndarray]) -> bool:
    return any(max(each) < 5 for each in rows)


def test_there_is_no_ratio_to_nothing() -> None:
    X, y = data(20, 3)
    difference, ratio = contrastive(linear(0 * X, y, np.ones(3)), of=FisherTrace()).quantities
    assert difference.value == 0
    assert ratio.status == "degenerate"
    assert math.isnan(ratio.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 21, "batches": 2}, "batch: got 21 where there are 20 examples. Take at most 20"),
        ({"batch": 11}, "batch: got 11, which cuts 20 examples into no two minibatches. Take at most 10"),
        ({"batch": 10, "of": Eigenvalues(layer="dense 9")}, "layer: got 'dense 9'"),
        ({"batch": 10, "of": GradientContrast(batch=6)}, "batch: got 6 where two minibatches have to fit into 10"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{message}"):
        measure(LINEAR, np.ones(4), *data(20, 4), [ContrastiveFlatness(**options)])


def test_it_is_not_taken_of_itself() -> None:
    with pytest.raises(InvalidInput, match=r"^of"):
        measure_of("contrastive-flatness", of={"kind": "contrastive-flatness"})
    for of in ("trace", {"kind": "trace"}, Trace()):
        assert measure_of("contrastive-flatness", of=of).of == Trace()
