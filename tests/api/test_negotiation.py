"""Forms of answers, and parameters of queries."""

import pytest
from starlette.testclient import TestClient

from api.negotiation import preferred
from tests.api.apps import problem

JSON, LINES, ARRAY = "application/json", "application/x-ndjson", "application/x-npy"
BODY = {"dataset": {"kind": "digits", "n": 6}, "labellings": [{"kind": "constant"}], "estimator": {"kind": "ep"}}


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", JSON),
        ("*/*", JSON),
        (LINES, LINES),
        ("Application/X-NDJSON", LINES),
        (f"{LINES};q=0", None),
        (f"{LINES};q=0, {JSON}", JSON),
        (f"{LINES};q=0.2, {ARRAY}; q=0.3", ARRAY),
        (f"{JSON};q=0, */*", LINES),
        (f"{JSON};q=0.1, */*;q=0.5", LINES),
        (f"application/*;q=0.4, {ARRAY};q=0.5", ARRAY),
        ("text/html, */*;q=0.8", JSON),
        ("text/html", None),
        (f"{LINES};q=no", None),
        (f"{ARRAY}, {LINES}", LINES),
    ],
)
def test_the_form_with_the_highest_quality(accept: str, chosen: str | None) -> None:
    assert preferred(accept, (JSON, LINES, ARRAY)) == chosen


def test_results_come_in_the_form_that_is_accepted(api: TestClient) -> None:
    answer = api.post("/v1/estimates", json=BODY, headers={"Prefer": "wait=20"})
    where = answer.headers["content-location"]
    for accept, kind in ((f"{LINES};q=0, {JSON}", JSON), (f"{JSON};q=0.5, {LINES}", LINES), (ARRAY, ARRAY)):
        answer = api.get(where, headers={"Accept": accept})
        assert answer.headers["content-type"].partition(";")[0] == kind
        assert answer.headers["vary"] == "Accept"
    answer = api.get(where, headers={"Accept": "text/csv"})
    assert problem(answer, 406, "not-acceptable")["detail"].startswith(f"Results of estimates are {JSON}, {LINES}, ")
    assert answer.headers["vary"] == "Accept"


@pytest.mark.parametrize(
    ("method", "path", "known"),
    [
        ("GET", "/v1/jobs?state=running&stat=failed", "This route has: cursor, limit, name, state, tag."),
        ("POST", "/v1/estimates?dryrun=true", "This route has: dry_run, name, tag."),
        ("GET", "/v1/catalogue?kind=work", "This route has none."),
        ("GET", "/v1/kernels?limit=5", "This route has none."),
    ],
)
def test_parameters_that_a_route_does_not_have(api: TestClient, method: str, path: str, known: str) -> None:
    found = problem(api.request(method, path, json=BODY if method == "POST" else None), 422, "invalid-request")
    name = path.rpartition("?")[2].rpartition("&")[2].partition("=")[0]
    assert found["errors"] == [{"location": f"query.{name}", "message": f"there is no such parameter. {known}"}]
