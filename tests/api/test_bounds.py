"""PAC-Bayes bounds over HTTP: those of the library, from the estimates that the service gives."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from api.work import WORK, Limits
from nngp_prior import FullyConnected, clean_error_flipped, clean_error_randomised, kernel, learning_curve
from nngp_prior.data import label, load
from nngp_prior.kernels import KernelCache
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.schemas.requests import BoundRequest
from nngp_prior.schemas.results.base import Result
from nngp_prior.schemas.results.bound import BoundResult, PacBayesBound
from nngp_prior.schemas.specs.data import Digits, Flip, Parity, Randomise, Threshold
from tests.api.apps import WAIT, npy, problem, sha256

ROWS = ({"kind": "parity"}, {"kind": "explicit", "values": [1]}, {"kind": "threshold", "at": 5})
BODY = {"dataset": {"kind": "digits", "n": 30}, "labellings": ROWS, "seed": 5}


def posted(api: TestClient, body: dict[str, Any], work: str = "bounds") -> dict[str, Any]:
    answer = api.post(f"/v1/{work}", json=body, headers=WAIT)
    assert answer.status_code == 200, answer.text
    return answer.json()


def without_time(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "seconds"}


def test_estimates_are_those_of_the_other_route_and_bounds_those_of_the_library(api: TestClient) -> None:
    document = posted(api, BODY | {"delta": 0.1, "gamma": 0.2, "estimator_share": 0.3})
    assert (document["n"], document["units"], document["sizes"]) == (30, "nats", None)
    assert (document["delta"], document["gamma"], document["estimator_share"]) == (0.1, 0.2, 0.3)
    estimates = posted(api, BODY, "estimates")["results"]
    data = load(Digits(n=30))
    K = kernel(FullyConnected(), data.X)
    for place, labelling in ((0, Parity()), (2, Threshold(at=5))):
        row, estimate = document["results"][place], estimates[place]
        more = {name: row.pop(name) for name in ("m", "bound", "bounds")}
        assert without_time(row) == without_time(estimate)
        ((m, _, bounds),) = learning_curve(
            K, label(labelling, data.classes), [30], delta=0.1, gamma=0.2, estimator_share=0.3, seed=5
        )
        assert [PacBayesBound.model_validate(bound) for bound in more["bounds"]] == list(bounds.values())
        assert (more["m"], more["bound"]) == (m, bounds["realizable"].value)
    assert without_time(document["results"][1]) == estimates[1]
    assert estimates[1]["status"] == "invalid-labels"


def test_a_learning_curve_is_that_of_the_library(api: TestClient) -> None:
    document = posted(api, BODY | {"sizes": [30, 10, 20, 10]})
    assert document["sizes"] == [10, 20, 30]
    data = load(Digits(n=30))
    expected = learning_curve(kernel(FullyConnected(), data.X), label(Parity(), data.classes), [10, 20, 30], seed=5)
    found = BoundResult(document["results"][0])
    assert [point.m for point in found.points] == [10, 20, 30]
    for point, (_, estimate, bounds) in zip(found.points, expected, strict=True):
        assert (point.value, point.stderr, point.bounds) == (estimate.value, estimate.stderr, bounds)
    assert (found.m, found.bounds) == (30, expected[-1].bounds)
    assert Result(document["results"][1]).status == "invalid-labels"


@pytest.mark.parametrize("corruption", [Randomise(probability=0.2, seed=3), Flip(count=6, seed=3)])
def test_corrupted_labels_say_something_of_clean_ones(api: TestClient, corruption: Randomise | Flip) -> None:
    data = load(Digits(n=30))
    clean = label(Parity(), data.classes)
    dirty = label(Parity(corruption=corruption), data.classes)
    content = npy(np.array([clean, clean]))
    api.put(f"/v1/blobs/{sha256(content)}", content=content).raise_for_status()
    specified = corruption.model_dump(mode="json")
    labellings = [{"kind": "parity", "corruption": specified}]
    labellings.append({"kind": "blob", "sha256": sha256(content), "corruption": specified})
    one = npy(clean)  # (n,) is one labelling
    api.put(f"/v1/blobs/{sha256(one)}", content=one).raise_for_status()
    labellings.append({"kind": "blob", "sha256": sha256(one), "corruption": specified})
    rows = posted(api, BODY | {"labellings": labellings, "sizes": [15, 30]})["results"]
    assert len(rows) == 4
    for row in rows:
        for point in BoundResult(row).points:
            value, m = point.bounds["realizable"].value, point.m
            rate = float(np.mean(dirty[:m] != clean[:m]))
            randomised = isinstance(corruption, Randomise)
            wanted = clean_error_randomised(value, 0.2) if randomised else clean_error_flipped(value, rate)
            assert point.clean_error == wanted
    for row in (1, 3):
        assert without_time(rows[row]["points"][0]) == without_time(rows[0]["points"][0]) | {"labelling": row}


def test_labels_that_are_redrawn_or_mostly_flipped_say_nothing_of_clean_ones(api: TestClient) -> None:
    corruptions = ({"kind": "randomise", "probability": 1}, {"kind": "flip", "count": 20})
    rows = posted(api, BODY | {"labellings": [{"kind": "parity", "corruption": each} for each in corruptions]})
    assert [row["clean_error"] for row in rows["results"]] == [1.0, 1.0]


def test_classes_have_bounds_and_what_is_no_bound_says_so(api: TestClient) -> None:
    body = BODY | {"labellings": [{"kind": "classes"}], "estimator": {"kind": "ep", "classes": 10}}
    (row,) = posted(api, body)["results"]
    assert row["bounds"][0]["is_bound"] is False
    assert row["bounds"][0]["log_p"] == row["log_p"]
    (curve,) = posted(api, body | {"sizes": [10, 30]})["results"]
    data = load(Digits(n=30))
    points = learning_curve(kernel(FullyConnected(), data.X), data.classes, [10, 30], seed=5, method="ep", classes=10)
    assert [point["log_p"] for point in curve["points"]] == [point.estimate.value for point in points]


def test_an_array_of_results(api: TestClient) -> None:
    document = posted(api, BODY)
    where = f"/v1/jobs/{api.post('/v1/bounds', json=BODY).json()['id']}/results"
    array = np.load(io.BytesIO(api.get(where, headers={"Accept": "application/x-npy"}).content))
    assert array.shape == (3, 3)
    assert np.isnan(array[1]).all()
    np.testing.assert_array_equal(array[0], [document["results"][0][name] for name in ("log_p", "stderr", "bound")])


@pytest.mark.parametrize(
    ("change", "location"),
    [
        ({"sizes": [31]}, "sizes"),
        ({"sizes": []}, "body.sizes"),
        ({"sizes": [0]}, "body.sizes.0"),
        ({"delta": 0}, "body.delta"),
        ({"gamma": 1}, "body.gamma"),
        ({"estimator_share": 2}, "body.estimator_share"),
        ({"labellings": []}, "body.labellings"),
    ],
)
def test_requests_that_cannot_be_carried_out_are_no_jobs(
    api: TestClient, change: dict[str, Any], location: str
) -> None:
    before = len(api.get("/v1/jobs?limit=500").json()["jobs"])
    found = problem(api.post("/v1/bounds", json=BODY | change), 422, "invalid-request")
    assert found["errors"][0]["location"] == location
    assert len(api.get("/v1/jobs?limit=500").json()["jobs"]) == before


def test_a_curve_takes_the_time_of_its_points(tmp_path: Path) -> None:
    runner, limits = RequestRunner(KernelCache(tmp_path, 10**9)), Limits(2, 2**34)

    def seconds(**more: Any) -> float:
        request = BoundRequest.model_validate({"dataset": {"kind": "digits", "n": 1000}, "labellings": ROWS, **more})
        return WORK["bounds"].plan(request, runner, limits).seconds

    assert seconds(sizes=[1000]) == seconds()
    point = seconds(sizes=[250, 1000]) - seconds(sizes=[1000])  # the kernel's time is in both
    assert point > 0
    assert seconds(sizes=[250, 500, 1000]) - seconds(sizes=[500, 1000]) == pytest.approx(point)
