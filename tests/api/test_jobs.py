"""Submissions, jobs and their results over HTTP."""

import io
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from api.executors.base import Cancelled, Failed, Listener, Lost, Outcome, Task
from api.problems import Problem
from api.work import WORK
from nngp_prior import log_prior
from nngp_prior.data import load
from nngp_prior.schemas.requests import EstimateRequest
from nngp_prior.schemas.specs.architecture import FullyConnected
from nngp_prior.schemas.specs.data import Digits, Explicit, Flip, Inline, RandomLabels
from nngp_prior.schemas.specs.estimator import EP
from nngp_prior.versions import versions
from tests.api.apps import InProcess, client, npy, problem, sha256
from tests.system.server import wait_for

WAIT = {"Prefer": "wait=30"}
PARITY = {"dataset": {"kind": "digits", "n": 12}, "labellings": [{"kind": "parity"}]}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with client(tmp_path_factory.mktemp("home")) as served:
        yield served


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[TestClient, InProcess]]:
    """Where nothing is computed before it is told to go on."""
    executor = InProcess(tmp_path)
    executor.go_on.clear()
    with client(tmp_path, executor) as served:
        yield served, executor


def request(seed: int, *labellings: dict[str, Any]) -> dict[str, Any]:
    return {**PARITY, **({"labellings": labellings} if labellings else {}), "seed": seed}


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
    assert document["estimator"]["particles"] == 32
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
    spelled_out = {**body, "estimator": {"kind": "smc", "particles": 32}, "architecture": {"kind": "fully-connected"}}
    assert api.post("/v1/estimates", json=spelled_out).json()["id"] == again.json()["id"]
    assert api.post("/v1/estimates", json=body | {"seed": 3}).json()["id"] != again.json()["id"]
    assert api.post("/v1/estimates", json=body, headers=WAIT).json() == results.json()


@pytest.mark.parametrize(
    ("prefer", "applied"), [("wait=0", "wait=0"), ("respond-async, wait=2", "wait=2"), ("wait=9999", "wait=30")]
)
def test_how_long_to_wait(held: tuple[TestClient, InProcess], prefer: str, applied: str) -> None:
    api, executor = held
    if applied == "wait=30":
        executor.go_on.set()
    began = time.monotonic()
    answer = api.post("/v1/estimates", json=request(4), headers={"Prefer": prefer})
    assert answer.headers["Preference-Applied"] == applied
    assert answer.status_code == (200 if applied == "wait=30" else 201)
    assert time.monotonic() - began < 20


def test_what_a_job_would_take(api: TestClient) -> None:
    body = {"dataset": {"kind": "digits", "n": 900}, "labellings": [{"kind": "random", "seed": i} for i in range(500)]}
    before = api.get("/v1/jobs").json()["jobs"]
    cost = api.post("/v1/estimates?dry_run=true", json=body)
    assert cost.status_code == 200
    assert cost.json()["rows"] == 500
    assert cost.json()["bytes"] > 900 * 900 * 8
    assert cost.json()["seconds"] > 10
    assert cost.json()["chunks"] > 1
    assert not cost.json()["cached"]
    assert api.get("/v1/jobs").json()["jobs"] == before
    api.post("/v1/estimates", json=request(5), headers=WAIT)
    assert api.post("/v1/estimates?dry_run=true", json=request(6)).json()["cached"]


def test_entity_tags(api: TestClient) -> None:
    job = api.post("/v1/estimates", json=request(7)).json()
    api.post("/v1/estimates", json=request(7), headers=WAIT)
    shown = api.get(f"/v1/jobs/{job['id']}")
    same = api.get(f"/v1/jobs/{job['id']}", headers={"If-None-Match": shown.headers["ETag"]})
    assert (same.status_code, same.content) == (304, b"")
    assert api.get(f"/v1/jobs/{job['id']}", headers={"If-None-Match": '"0.0"'}).status_code == 200
    assert api.get(f"/v1/jobs/{job['id']}", headers={"If-None-Match": "*"}).status_code == 304


def test_waiting_for_a_change(held: tuple[TestClient, InProcess]) -> None:
    api, executor = held
    where = f"/v1/jobs/{api.post('/v1/estimates', json=request(7)).json()['id']}"
    wait_for(lambda: api.get(where).json()["state"] == "running", 10)
    shown = api.get(where)
    same = api.get(where, headers={"Prefer": "wait=1", "If-None-Match": shown.headers["ETag"]})
    assert same.status_code == 304
    assert same.headers["Preference-Applied"] == "wait=1"
    threading.Timer(0.2, executor.go_on.set).start()
    changed = api.get(where, headers={"Prefer": "wait=20", "If-None-Match": shown.headers["ETag"]})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != shown.headers["ETag"]
    wait_for(lambda: api.get(where, headers={"Prefer": "wait=20"}).json()["state"] == "successful", 30)


def test_forms_of_results(api: TestClient) -> None:
    body = request(8, {"kind": "parity"}, {"kind": "explicit", "values": [1]}, {"kind": "constant"})
    document = api.post("/v1/estimates", json=body, headers=WAIT).json()
    where = f"/v1/jobs/{api.post('/v1/estimates', json=body).json()['id']}/results"
    lines = api.get(where, headers={"Accept": "application/x-ndjson"})
    assert lines.headers["Content-Type"].startswith("application/x-ndjson")
    assert [json.loads(line) for line in lines.text.splitlines()] == document["results"]
    array = np.load(io.BytesIO(api.get(where, headers={"Accept": "application/x-npy"}).content))
    assert array.shape == (3, 2)
    assert np.isnan(array[1]).all()
    np.testing.assert_array_equal(array[2], [document["results"][2]["log_p"], document["results"][2]["stderr"]])


def test_results_that_are_not_there(held: tuple[TestClient, InProcess]) -> None:
    api, executor = held
    job = api.post("/v1/estimates", json=request(9)).json()
    where = f"/v1/jobs/{job['id']}"
    answer = api.get(f"{where}/results")
    assert problem(answer, 409, "result-not-ready")["retryable"]
    assert int(answer.headers["Retry-After"]) > 0
    assert api.get(f"{where}/results?partial=true").json()["results"] == []
    assert api.delete(where).json()["state"] == "dismissed"
    problem(api.get(f"{where}/results"), 410, "dismissed")
    assert api.delete(where).status_code == 202
    executor.go_on.set()
    again = api.post("/v1/estimates", json=request(9))
    assert again.status_code == 201
    assert again.json()["attempt"] == 2
    wait_for(lambda: api.get(where).json()["state"] == "successful", 30)
    assert api.delete(where).json()["state"] == "successful"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Problem(422, "time-limit", "A part of this job took more than 7 s. Ask for less."), 422, "time-limit"),
        (Problem(500, "internal-error", "The computation failed."), 409, "job-failed"),
        (Problem(500, "time-limit", "As older versions stored it."), 409, "job-failed"),
    ],
)
def test_results_of_a_failed_job_are_no_failure_of_the_request(
    held: tuple[TestClient, InProcess], monkeypatch: pytest.MonkeyPatch, error: Problem, status: int, code: str
) -> None:
    api, executor = held
    executor.go_on.set()
    monkeypatch.setattr(executor, "run", lambda task, listener: Failed(error.document()))
    job = api.post("/v1/estimates", json=request(1), headers=WAIT).json()
    assert job["state"] == "failed"
    with capture_logs() as logged:
        for _ in range(2):
            found = problem(api.get(f"/v1/jobs/{job['id']}/results"), status, code)
            assert error.detail in found["detail"]
            assert not found["retryable"]
    assert not [line for line in logged if line["log_level"] in ("warning", "error")]
    assert api.get(f"/v1/jobs/{job['id']}/results?partial=true").json()["results"] == []


def test_a_job_that_fails_tells_why(api: TestClient) -> None:
    # That there is no closed form is seen when the kernel is there.
    body = {**PARITY, "estimator": {"kind": "closed-form"}}
    job = api.post("/v1/estimates", json=body, headers={**WAIT, "X-Request-ID": "mine"}).json()
    assert job["state"] == "failed"
    assert job["error"]["request_id"] == "mine"
    assert job["error"]["code"] == "invalid-request"
    answer = problem(api.get(f"/v1/jobs/{job['id']}/results"), 422, "invalid-request")
    assert answer["detail"] == job["error"]["detail"]
    assert api.post("/v1/estimates", json=body).json()["attempt"] == 2


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


def test_events(api: TestClient) -> None:
    body = request(30, {"kind": "parity"}, {"kind": "constant"})
    job = api.post("/v1/estimates", json=body).json()
    text = api.get(f"/v1/jobs/{job['id']}/events").text  # until it has ended
    kinds = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert kinds[0] == "accepted"
    assert kinds[-1] == "successful"
    numbers = [int(line.removeprefix("id: ")) for line in text.splitlines() if line.startswith("id: ")]
    later = api.get(f"/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": str(numbers[-2])}).text
    assert later.count("event: ") == 1
    problem(api.get(f"/v1/jobs/{'0' * 64}/events"), 404, "not-found")


def test_a_stream_of_events_never_reads_the_request_again(
    held: tuple[TestClient, InProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    api, executor = held
    job = api.post("/v1/estimates", json=request(31, {"kind": "parity"}, {"kind": "constant"})).json()
    assert isinstance(api.app, FastAPI)
    table, reads = api.app.state.service.table, []
    get = table.get
    monkeypatch.setattr(table, "get", lambda job_id: reads.append(job_id) or get(job_id))
    threading.Timer(0.2, executor.go_on.set).start()
    assert "event: successful" in api.get(f"/v1/jobs/{job['id']}/events").text
    assert len(reads) == 1  # to see that there is such a job


def test_head_of_events_does_not_wait(held: tuple[TestClient, InProcess]) -> None:
    api, _ = held
    job = api.post("/v1/estimates", json=request(32)).json()
    answer = api.head(f"/v1/jobs/{job['id']}/events")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")


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


def test_uploaded_inputs_and_labels(api: TestClient) -> None:
    data = load(Digits(n=12))
    Y = np.stack([2 * (data.classes % 2) - 1, np.ones(12)]).astype(np.int8)
    hashes = []
    for array in (data.X, Y):
        content = npy(array)
        hashes.append(sha256(content))
        api.put(f"/v1/blobs/{hashes[-1]}", content=content).raise_for_status()
    body = {
        "dataset": {"kind": "blob", "sha256": hashes[0]},
        "labellings": [{"kind": "blob", "sha256": hashes[1]}],
        "seed": 1,
    }
    results = api.post("/v1/estimates", json=body, headers=WAIT).json()["results"]
    own = log_prior(FullyConnected(depth=2), data.X, Y[0], seed=1)
    assert [row["labelling"] for row in results] == [0, 1]
    assert results[0]["log_p"] == own.value
    missing = {**body, "labellings": [{"kind": "blob", "sha256": "0" * 64}]}
    assert "pload it first" in problem(api.post("/v1/estimates", json=missing), 422, "invalid-request")["detail"]


@pytest.mark.parametrize(
    ("change", "location"),
    [
        ({"dataset": {"kind": "digits", "n": 0}}, "body.dataset.n"),
        ({"dataset": {"kind": "digits", "n": 10**6}}, "n"),
        ({"dataset": {"kind": "nothing"}}, "body.dataset.kind"),
        ({"labellings": []}, "body.labellings"),
        ({"labellings": [{"kind": "threshold"}]}, "body.labellings.0.at"),
        ({"estimator": {"kind": "smc", "particles": -1}}, "body.estimator.particles"),
        ({"estimator": {"kind": "laplace"}}, "body.estimator.noise_variance"),
        ({"colour": "blue"}, "body.colour"),
        ({"estimator": {"kind": "smc", "replicates": 10**11}}, "body.estimator.replicates"),
        ({"estimator": {"kind": "smc", "target_stderr": 1e-160}}, "body.estimator.target_stderr"),
        ({"architecture": {"kind": "fully-connected", "weight_std": 1e200}}, "body.architecture.weight_std"),
        ({"labellings": [{"kind": "two-classes", "positive": 3, "negative": 3}]}, "body.labellings.0"),
    ],
)
def test_requests_that_cannot_be_carried_out_are_no_jobs(
    api: TestClient, change: dict[str, Any], location: str
) -> None:
    before = len(api.get("/v1/jobs?limit=500").json()["jobs"])
    found = problem(api.post("/v1/estimates", json=PARITY | change), 422, "invalid-request")
    assert found["errors"][0]["location"] == location
    assert len(api.get("/v1/jobs?limit=500").json()["jobs"]) == before


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
    assert "no JSON at character" in problem(answer, 422, "invalid-request")["detail"]


def test_a_kernel_is_computed_into_the_store(api: TestClient) -> None:
    body = {"dataset": {"kind": "digits", "n": 13}, "get": "ntk"}
    document = api.post("/v1/kernels", json=body, headers=WAIT).json()
    assert document["get"] == "ntk"
    key = document["results"][0]["kernel"]
    assert document["kernel"] == key
    assert key in [entry["kernel"] for entry in api.get("/v1/kernels").json()["kernels"]]
    where = f"/v1/jobs/{api.post('/v1/kernels', json=body).json()['id']}/results"
    problem(api.get(where, headers={"Accept": "application/x-npy"}), 406, "not-acceptable")


class OneRow(InProcess):
    """Computes one row of a job, and goes no further."""

    def run(self, task: Task, listener: Listener) -> Outcome:
        super().run(replace(task, rows=task.rows[:1]), listener)
        while not self._ended:
            time.sleep(0.01)
        return Cancelled()


def test_rows_of_two_versions_are_never_one_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that is begun under one version and ended under another begins anew there, and says so."""
    body = request(5, {"kind": "parity"}, {"kind": "constant"}, {"kind": "random"})
    older = {**versions(), "numpy": "1.0"}
    with monkeypatch.context() as before:
        for module in ("api.routes.submissions", "api.service", "nngp_prior.prior.request_runner"):
            before.setattr(f"{module}.versions", lambda: older)
        with client(tmp_path, OneRow(tmp_path)) as api:
            job = f"/v1/jobs/{api.post('/v1/estimates', json=body).json()['id']}"
            wait_for(lambda: api.get(job).json()["progress"]["current"] == 1, 30)
            begun = api.get(f"{job}/results?partial=true").json()
    with client(tmp_path) as api:
        wait_for(lambda: api.get(job).json()["state"] == "successful", 30)
        ended = api.get(f"{job}/results").json()
        assert api.get(job).json()["attempt"] == 2
        assert api.post("/v1/estimates", json=body, headers=WAIT).json()["results"]
    assert (begun["versions"], ended["versions"]) == (older, versions())
    assert begun["results"][0] not in ended["results"]  # it was computed again: in other seconds, here
    assert [row["log_p"] is not None for row in ended["results"]] == [True] * 3


def test_a_damaged_request_is_refused_before_the_answer_begins(tmp_path: Path) -> None:
    with client(tmp_path) as api:
        job = api.post("/v1/estimates", json=PARITY, headers=WAIT).headers["Content-Location"]
        whole = api.get(job).json()
        with api.app.state.service.table.database.write() as connection:
            connection.exec_driver_sql("UPDATE jobs SET facts = replace(facts, 'versions', 'wersions')")
        told = problem(api.get(job), 500, "damaged-store")
        assert not told["retryable"]
        assert "Post it again" in told["detail"]
        assert api.post("/v1/estimates", json=PARITY, headers=WAIT).json() == whole


def test_what_cannot_be_planned_any_more_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = npy(np.eye(3))
    body = {"dataset": {"kind": "blob", "sha256": sha256(content)}, "labellings": [{"kind": "constant"}]}
    executor = InProcess(tmp_path)
    executor.go_on.clear()
    with client(tmp_path, executor) as api:
        api.put(f"/v1/blobs/{sha256(content)}", content=content)
        job = f"/v1/jobs/{api.post('/v1/estimates', json=body).json()['id']}"
    next((tmp_path / "blobs").glob("??/*")).unlink()
    monkeypatch.setattr("api.service.versions", lambda: {"numpy": "99"})
    with client(tmp_path) as api:
        found = api.get(job).json()
        assert (found["state"], found["error"]["code"]) == ("failed", "invalid-request")


def test_every_kind_of_work_has_a_route_and_a_schema(api: TestClient) -> None:
    document = api.get("/openapi.json").json()
    assert WORK
    for kind, work in WORK.items():
        schema = document["paths"][f"/v1/{kind}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": f"#/components/schemas/{work.request.__name__}"}
