"""Results of jobs over HTTP: their forms, and what stands in their place."""

import io
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from api.executors.base import Cancelled, Failed, Listener, Outcome, Task
from api.problems import Problem
from nngp_prior import log_prior
from nngp_prior.data import load
from nngp_prior.schemas.specs.architecture import FullyConnected
from nngp_prior.schemas.specs.data import Digits
from nngp_prior.versions import versions
from tests.api.apps import PARITY, WAIT, InProcess, client, npy, problem, request, sha256
from tests.system.server import wait_for


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
