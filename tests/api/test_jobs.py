"""Jobs over HTTP: submission, sameness, cost, limits, lists."""

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.executors.base import Lost
from api.work import WORK
from nngp_prior import log_prior
from nngp_prior.data import load
from nngp_prior.schemas.requests import EstimateRequest
from nngp_prior.schemas.specs.architecture import FullyConnected
from nngp_prior.schemas.specs.data import Digits, Explicit, Flip, Inline, RandomLabels
from nngp_prior.schemas.specs.estimator import EP
from tests.api.apps import PARITY, WAIT, InProcess, client, problem, request
from tests.system.server import wait_for


def ids(api: TestClient) -> list[str]:
    """Of all jobs; a small job may end between two lists."""
    return [job["id"] for job in api.get("/v1/jobs?limit=500").json()["jobs"]]


def test_a_job_from_its_submission_to_its_results(api: TestClient) -> None:
    accepted = api.post("/v1/estimates", json=request(1, {"kind": "parity"}, {"kind": "constant"}))
    assert accepted.status_code == 201
    job = accepted.json()
    assert accepted.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert job["progress"]["target"] == 2
    wait_for(lambda: api.get(accepted.headers["Location"]).json()["state"] == "successful", 30)
    shown = api.get(accepted.headers["Location"]).json()
    assert [shown[name] for name in ("data", "n", "architecture", "method")] == ["digits", 12, "fully-connected", "smc"]
    assert shown["progress"] == {"current": 2, "target": 2, "unit": "labellings", "stage": None}
    links = {link["rel"]: link["href"] for link in shown["links"]}
    document = api.get(links["results"]).json()
    data = load(Digits(n=12))
    own = log_prior(FullyConnected(depth=2), data.X, 2 * (data.classes % 2) - 1, seed=1)
    first = document["results"][0]
    assert (first["log_p"], first["stderr"], first["interval"]) == (own.value, own.stderr, list(own.interval()))
    assert document["units"] == "nats"
    assert document["n"] == 12
    assert document["estimator"]["replicates"] == 32
    assert document["architecture"]["depth"] == 2
    assert len(document["kernel"]) == 64
    assert document["versions"]["jax"]


def test_a_job_with_rows_that_were_given_up_begins_anew_when_it_is_posted_again(
    held: tuple[TestClient, InProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    api, executor = held
    executor.go_on.set()
    with monkeypatch.context() as patch:
        patch.setattr(executor, "run", lambda task, listener: Lost("a crash"))
        crashed = api.post("/v1/estimates", json=request(1), headers=WAIT).json()
    assert [row["status"] for row in crashed["results"]] == ["worker-crashed"]
    again = api.post("/v1/estimates", json=request(1), headers=WAIT).json()
    assert [row["status"] for row in again["results"]] == ["ok"]
    (job,) = api.get("/v1/jobs").json()["jobs"]
    assert (job["attempt"], job["losses"], job["progress"]["current"]) == (2, 0, 1)
    assert api.post("/v1/estimates", json=request(1)).status_code == 200


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        (
            "estimates",
            {"labellings": [{"kind": "random"}], "architecture": {"kind": "convolutional", "weight_std": 1.5}},
            ["inline(x=3)", "convolutional(weight_std=1.5)", "smc"],
        ),
        ("kernels", {"get": "ntk"}, ["inline(x=3)", "fully-connected", "ntk"]),
        ("samples", {"networks": 4, "architecture": {"kind": "fully-connected", "depth": 3}},
         ["inline(x=3)", "fully-connected(depth=3)", "networks"]),
    ],
)  # fmt: skip
def test_a_job_says_in_few_words_what_it_is(
    held: tuple[TestClient, InProcess], kind: str, fields: dict[str, Any], expected: list[str]
) -> None:
    api, _ = held
    images = [[[float(i + j)] * 5 for j in range(5)] for i in range(3)]
    answer = api.post(f"/v1/{kind}", json={"dataset": {"kind": "inline", "x": images}, **fields})
    (listed,) = api.get("/v1/jobs").json()["jobs"]
    assert listed["id"] == answer.json()["id"]
    assert [listed[name] for name in ("data", "architecture", "method")] == expected
    assert listed["n"] == 3


def test_known_requests_are_the_same_job(api: TestClient) -> None:
    body = request(2)
    results = api.post("/v1/estimates", json=body, headers=WAIT)
    assert results.status_code == 200
    assert results.headers["Preference-Applied"] == "wait=30"
    assert results.headers["Content-Location"].endswith("/results")
    again = api.post("/v1/estimates", json=body)
    assert again.status_code == 200
    assert again.json()["state"] == "successful"
    spelled_out = {**body, "estimator": {"kind": "smc", "replicates": 32}, "architecture": {"kind": "fully-connected"}}
    assert api.post("/v1/estimates", json=spelled_out).json()["id"] == again.json()["id"]
    assert api.post("/v1/estimates", json=body | {"seed": 3}).json()["id"] != again.json()["id"]
    assert api.post("/v1/estimates", json=body, headers=WAIT).json() == results.json()


def test_what_a_job_would_take(api: TestClient) -> None:
    body = {"dataset": {"kind": "digits", "n": 900}, "labellings": [{"kind": "random", "seed": i} for i in range(500)]}
    before = ids(api)
    cost = api.post("/v1/estimates?dry_run=true", json=body)
    assert cost.status_code == 200
    assert cost.json()["rows"] == 500
    assert cost.json()["bytes"] > 900 * 900 * 8
    assert cost.json()["seconds"] > 10
    assert cost.json()["chunks"] > 1
    assert not cost.json()["cached"]
    assert ids(api) == before
    api.post("/v1/estimates", json=request(5), headers=WAIT)
    cost = api.post("/v1/estimates?dry_run=true", json=request(6)).json()
    assert cost["cached"]
    job = api.post("/v1/estimates", json=request(6)).json()
    assert job["cost"] == {name: cost[name] for name in ("bytes", "seconds")}


def test_pages_of_jobs(api: TestClient) -> None:
    for seed in range(20, 25):
        api.post("/v1/estimates", json=request(seed), headers=WAIT)
    ids = [api.post("/v1/estimates", json=request(seed)).json()["id"] for seed in range(20, 25)]
    found, where = [], "/v1/jobs?limit=2&state=successful"
    while where:
        page = api.get(where).json()
        assert 1 <= len(page["jobs"]) <= 2
        found += [job["id"] for job in page["jobs"]]
        where = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)
    assert len(found) == len(set(found))
    assert found[:5] == ids[::-1]  # the newest first
    created = [api.get(f"/v1/jobs/{each}").json()["created"] for each in found]
    assert created == sorted(created, reverse=True)
    assert problem(api.get("/v1/jobs?state=lost"), 422, "invalid-request")["errors"][0]["location"] == "query.state"
    problem(api.get("/v1/jobs?cursor=!"), 422, "invalid-request")
    problem(api.get("/v1/jobs?limit=0"), 422, "invalid-request")


def test_what_differs_from_the_defaults_is_the_same_job(api: TestClient) -> None:
    for whole in (
        EstimateRequest.model_validate(request(33)),
        EstimateRequest(
            architecture=FullyConnected(depth=1),
            dataset=Inline(x=((1.0, 2.0), (0.5, -1.0))),
            labellings=(Explicit(values=(1, -1), corruption=Flip(count=1)), RandomLabels(seed=2)),
            estimator=EP(),
        ),
    ):
        assert EstimateRequest.model_validate(whole.non_default) == whole
        ids = {
            api.post("/v1/estimates", json=body).json()["id"]
            for body in (whole.non_default, whole.model_dump(mode="json"))
        }
        assert len(ids) == 1
    assert whole.non_default == {
        "architecture": {"kind": "fully-connected", "depth": 1},
        "dataset": {"kind": "inline", "x": [[1.0, 2.0], [0.5, -1.0]]},
        "labellings": [
            {"kind": "explicit", "values": [1, -1], "corruption": {"kind": "flip", "count": 1}},
            {"kind": "random", "seed": 2},
        ],
        "estimator": {"kind": "ep"},
    }


@pytest.mark.parametrize(
    ("change", "location"),
    [
        ({"dataset": {"kind": "digits", "n": 0}}, "body.dataset.n"),
        ({"dataset": {"kind": "digits", "n": 10**6}}, "n"),
        ({"estimator": {"kind": "smc", "target_stderr": 1e-160}}, "body.estimator.target_stderr"),
        ({"labellings": [{"kind": "two-classes", "positive": 3, "negative": 3}]}, "body.labellings.0"),
    ],
)
def test_requests_that_cannot_be_carried_out_are_no_jobs(
    api: TestClient, change: dict[str, Any], location: str
) -> None:
    before = ids(api)
    found = problem(api.post("/v1/estimates", json=PARITY | change), 422, "invalid-request")
    assert found["errors"][0]["location"] == location
    assert ids(api) == before


def test_limits(tmp_path: Path) -> None:
    with client(tmp_path, max_rows=3, memory_limit=2**28) as api:
        body = {**PARITY, "labellings": [{"kind": "random", "seed": i} for i in range(4)]}
        assert (
            "are 4, and 3 are allowed (NNGP_MAX_ROWS)"
            in problem(api.post("/v1/estimates", json=body), 422, "too-many-rows")["detail"]
        )
        body = {**PARITY, "dataset": {"kind": "boolean", "bits": 14}}
        detail = problem(api.post("/v1/estimates", json=body), 422, "kernel-too-large")["detail"]
        largest = int(detail.split("Use at most ")[1].split(" ")[0].replace(",", ""))
        body["dataset"] |= {"n": largest}
        assert api.post("/v1/estimates?dry_run=true", json=body).status_code == 200
        body["dataset"] |= {"n": largest + 1}
        problem(api.post("/v1/estimates?dry_run=true", json=body), 422, "kernel-too-large")


def test_work_that_would_take_for_ever_is_refused(tmp_path: Path) -> None:
    with client(tmp_path, task_seconds=10) as api:
        body = {**PARITY, "estimator": {"kind": "sampling", "draws": 10**12}}
        assert "Ask for fewer" in problem(api.post("/v1/estimates", json=body), 422, "too-long")["detail"]


def test_a_body_that_is_no_json(api: TestClient) -> None:
    answer = api.post("/v1/estimates", content=b'{"dataset": 1,}', headers={"Content-Type": "application/json"})
    assert "invalid JSON at character" in problem(answer, 422, "invalid-request")["detail"]


def test_every_kind_of_work_has_a_route_and_a_schema(api: TestClient) -> None:
    document = api.get("/openapi.json").json()
    assert WORK
    for kind, work in WORK.items():
        schema = document["paths"][f"/v1/{kind}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": f"#/components/schemas/{work.request.__name__}"}
