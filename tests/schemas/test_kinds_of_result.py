"""Bounds and samples as they were sent."""

import json
import math

import numpy as np
import pytest

from nngp_prior import log_probability, pac_bayes_bounds
from nngp_prior.schemas.results.base import refused_row
from nngp_prior.schemas.results.bound import BoundResult, BoundResults, bound_row
from nngp_prior.schemas.results.estimate import Counts, Estimate
from nngp_prior.schemas.results.sample import Samples, function_row
from tests.cases import equicorrelated

ESTIMATES = [log_probability(equicorrelated(n, 0.5), [1] * n) for n in (3, 6)]
POINTS = [bound_row(2, estimate, pac_bayes_bounds(estimate), 0.25) for estimate in ESTIMATES]
IMPOSSIBLE = log_probability(np.ones((2, 2)), [1, -1])


def sent(row: dict) -> dict:
    """Through strict JSON."""
    return json.loads(json.dumps(row, allow_nan=False))


@pytest.mark.parametrize("estimate", [*ESTIMATES, IMPOSSIBLE])
def test_bounds_read_as_those_that_were_sent(estimate: Estimate) -> None:
    bounds = pac_bayes_bounds(estimate, 0.1, gamma=0.2)
    found = BoundResult(sent(bound_row(4, estimate, bounds)))
    assert found.bounds == bounds
    assert list(found.bounds) == list(bounds)
    assert found.bound == bounds["realizable"].value
    assert (found.m, found.value, found.clean_error, found.labelling) == (estimate.n, estimate.value, None, 4)
    assert found.points == [found]
    assert repr(found) == f"labelling 4: {bounds['realizable']}"


def test_a_curve_has_its_points() -> None:
    found = BoundResult(sent({**POINTS[-1], "points": POINTS}))
    assert [(point.m, point.value, point.clean_error) for point in found.points] == [
        (3, ESTIMATES[0].value, 0.25),
        (6, ESTIMATES[1].value, 0.25),
    ]
    assert found.points[0].points == [found.points[0]]


def test_a_refused_row_has_no_bounds() -> None:
    found = BoundResult(refused_row(1, "invalid-labels", "labels[0] is <0>."))
    assert (found.bounds, found.m, found.clean_error) == ({}, None, None)
    assert math.isnan(found.bound)
    assert repr(found) == "labelling 1: log P = nan nats [invalid-labels]"


def test_a_data_frame_of_bounds_has_a_line_a_point() -> None:
    rows = [{**POINTS[-1], "points": POINTS}, refused_row(3, "invalid-labels", "no")]
    results = BoundResults(rows, {"n": 6})
    assert isinstance(results[0], BoundResult)
    assert results.about == {"n": 6}
    first, second, refused = results.to_pandas().to_dict("records")
    bounds = pac_bayes_bounds(ESTIMATES[0])
    assert (first["labelling"], first["m"], first["log_p"]) == (2, 3, ESTIMATES[0].value)
    assert {name: first[name] for name in bounds} == {name: bound.value for name, bound in bounds.items()}
    assert (second["m"], second["clean_error"]) == (6, 0.25)
    assert (refused["labelling"], refused["message"]) == (3, "no")
    assert math.isnan(refused["m"])
    assert math.isnan(refused["realizable"])


def test_functions_read_as_those_that_were_sent() -> None:
    counts = Counts(hits=3, draws=10)
    frequency = Estimate(value=counts.value(), stderr=counts.stderr(), n=3, method="sampled-gp", evidence=counts)
    row = {"status": "ok", "message": "", "draws": 10, "functions": 4, "undecided": 2, "zeros": [0, 2, 0]}
    row["top"] = [function_row(1, np.array([1, -1, 1]), 3, frequency, {"entropy": 0.9})]
    assert row["top"][0]["labels"] == "101"
    samples = Samples(sent(row), {"n": 3})
    ((rank, labels, draws, found, complexities),) = samples
    assert (rank, draws, found, complexities) == (1, 3, frequency, {"entropy": 0.9})
    np.testing.assert_array_equal(labels, [1, -1, 1])
    assert (samples.draws, samples.functions, samples.undecided, samples.about) == (10, 4, 2, {"n": 3})
    np.testing.assert_array_equal(samples.zeros, [0, 2, 0])
    assert repr(samples) == "<Samples 10 draws, 4 functions, 1 of them here>"
    (line,) = samples.to_pandas().to_dict("records")
    low, high = counts.interval(0.95)
    assert (line["labels"], line["low"], line["high"], line["entropy"]) == ("101", low, high, 0.9)


def test_samples_whose_worker_crashed_have_no_functions() -> None:
    samples = Samples(refused_row(0, "worker-crashed", "It died."))
    assert (list(samples), samples.status, samples.message, samples.draws) == ([], "worker-crashed", "It died.", 0)
    assert repr(samples).endswith("[worker-crashed]>")
