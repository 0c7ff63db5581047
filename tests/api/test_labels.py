"""Labels that cannot be used: refused with the request if no row can be, else with their rows."""

from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from nngp_prior import LocalClient
from nngp_prior.client.http import translated
from nngp_prior.errors import InvalidLabels, ServiceError
from nngp_prior.kernels import KernelCache
from nngp_prior.schemas.requests import EstimateRequest
from tests.api.apps import npy, problem, sha256

SIGNS = np.array([[1, -1, 1, 1, -1, 1], [1, 1, 1, -1, -1, -1]], np.int8)
ROUTES = {"estimates": {}, "bounds": {}, "posteriors": {"train": 4}}
DIGITS = {"kind": "digits", "n": 6}


def blob(api: TestClient, labels: np.ndarray) -> dict[str, str]:
    content = npy(labels)
    api.put(f"/v1/blobs/{sha256(content)}", content=content).raise_for_status()
    return {"kind": "blob", "sha256": sha256(content)}


def refused(api: TestClient, route: str, body: dict[str, Any]) -> dict[str, str]:
    """The error of a request that is no job."""
    before = api.get("/v1/jobs").json()["jobs"]
    document = problem(api.post(f"/v1/{route}", json=ROUTES[route] | body), 422, "invalid-labels")
    assert api.get("/v1/jobs").json()["jobs"] == before
    (error,) = document["errors"]
    assert document["detail"] == f"{error['location']}: {error['message']}"
    return error


@pytest.mark.parametrize("route", ROUTES)
def test_uploaded_labels_none_of_which_can_be_used(api: TestClient, route: str) -> None:
    zero_one = blob(api, (SIGNS + 1) // 2)
    body = {"dataset": DIGITS, "labellings": [zero_one]}
    assert refused(api, route, body) == {
        "location": "labellings.0",
        "message": "row 0: got labels 0 and 1 (labels[1] is 0); none of the 2 labellings can be used. "
        "Pass 2 * labels - 1, booleans, or classes=2.",
    }
    short = blob(api, SIGNS[0, :5])
    error = refused(api, route, {"dataset": DIGITS, "labellings": [short, zero_one]})
    assert error["message"].startswith("row 0: got shape (5,) where there are 6 inputs; none of the 3 labellings")
    column = blob(api, SIGNS[0, :, None])
    error = refused(api, route, {"dataset": DIGITS, "labellings": [column]})
    assert "the array has shape (6, 1), 6 labellings of one input; none of" in error["message"]
    assert error["message"].endswith("Upload one labelling as (6,) or (1, 6).")
    unknown = blob(api, np.where(SIGNS == 1, 7, SIGNS)[:1])
    error = refused(api, route, {"dataset": DIGITS, "labellings": [unknown]})
    assert error["message"].startswith("row 0: labels[0] is 7. Labels are -1 and +1")
    dry = api.post(f"/v1/{route}?dry_run=true", json=ROUTES[route] | body)
    assert problem(dry, 422, "invalid-labels")["errors"][0]["location"] == "labellings.0"


def test_uploaded_labels_may_be_floats_as_in_files(api: TestClient) -> None:
    found = [
        api.post(
            "/v1/estimates",
            json={"dataset": DIGITS, "labellings": [blob(api, SIGNS.astype(dtype))]},
            headers={"Prefer": "wait=30"},
        ).json()["results"]
        for dtype in (np.int8, np.float64)
    ]
    assert [row["log_p"] for row in found[0]] == [row["log_p"] for row in found[1]]


@pytest.mark.parametrize(
    ("labelling", "part"),
    [
        ({"kind": "explicit", "values": [1, -1]}, "2 labels where there are 6 inputs"),
        ({"kind": "threshold", "at": 99}, "threshold at=99 labels all classes that there are"),
        ({"kind": "two-classes", "positive": 1, "negative": 2}, "where the data have the classes 0 … 9"),
        ({"kind": "parity", "corruption": {"kind": "flip", "count": 7}}, "7"),
    ],
)
def test_specified_labels_that_cannot_be_used(api: TestClient, labelling: dict[str, Any], part: str) -> None:
    error = refused(api, "estimates", {"dataset": DIGITS, "labellings": [labelling]})
    assert error["location"] == "labellings.0"
    assert part in error["message"]
    assert "none of" not in error["message"]


def test_classes_and_signs_are_not_taken_for_one_another(api: TestClient) -> None:
    body = {"dataset": DIGITS, "labellings": [blob(api, SIGNS)], "estimator": {"kind": "ep", "classes": 3}}
    assert "-1 and +1 need no classes" in refused(api, "estimates", body)["message"]
    without = {"dataset": DIGITS, "labellings": [{"kind": "classes"}]}
    assert "pass classes=C" in refused(api, "bounds", without)["message"]


@pytest.mark.parametrize("route", ROUTES)
def test_one_row_that_can_be_used_makes_a_job(api: TestClient, route: str) -> None:
    labels = SIGNS.copy()
    labels[0, 3] = 0
    body = ROUTES[route] | {"dataset": DIGITS, "labellings": [{"kind": "explicit", "values": [1]}, blob(api, labels)]}
    answer = api.post(f"/v1/{route}", json=body, headers={"Prefer": "wait=30"})
    assert answer.status_code == 200
    statuses = [row["status"] for row in answer.json()["results"]]
    assert statuses[:2] == ["invalid-labels"] * 2
    assert statuses[2] != "invalid-labels"


def test_clients_raise_the_same_error(api: TestClient, tmp_path) -> None:
    body = {"dataset": DIGITS, "labellings": [{"kind": "threshold", "at": 99}]}
    remote = translated(ServiceError(api.post("/v1/estimates", json=body).json()))
    with LocalClient(KernelCache(tmp_path, 10**9)) as local, pytest.raises(InvalidLabels) as caught:
        local.submit(EstimateRequest.model_validate(body))
    assert isinstance(remote, InvalidLabels)
    assert str(remote) == str(caught.value)


def test_labellings_that_are_no_list(api: TestClient) -> None:
    body = {"dataset": DIGITS, "labellings": {"kind": "parity"}}
    document = problem(api.post("/v1/estimates", json=body), 422, "invalid-request")
    assert document["errors"][0]["message"].endswith("Input should be a list.")
