"""Studies over HTTP: the rows and verdicts of the library, a report, and phases of their tasks."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient

from api.app import create_app
from api.token import session_of
from api.work import WORK, Limits
from nngp_prior import Client
from nngp_prior.errors import InvalidInput, NngpPriorError, ResourceLimit
from nngp_prior.experiments.requests import ExperimentRunner
from nngp_prior.kernels import KernelCache
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.schemas.frequencies import FrequencyProtocol
from nngp_prior.schemas.protocols import Protocol
from nngp_prior.schemas.requests import ExperimentRequest
from nngp_prior.schemas.results.frequencies import results_of_study
from nngp_prior.versions import versions
from tests.api.apps import TOKEN, WAIT, InProcess, client, problem, settings
from tests.experiments.cases import FOUR, TINY, assert_same
from tests.experiments.test_function_requests import BITS
from tests.experiments.test_function_requests import assert_same as assert_same_functions

BODY = {"protocol": TINY}


def test_results_and_report_are_those_of_the_library(api: TestClient, tmp_path: Path) -> None:
    answer = api.post("/v1/experiments", json={"protocol": FOUR}, headers=WAIT)
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert (document["units"], document["n"], document["networks"]) == ("nats", 20, 4)
    assert document["versions"] == versions()
    results = results_of_study(document["results"], document)
    assert_same(results, Protocol.model_validate(FOUR), tmp_path)
    assert [row["place"] for row in document["results"]] == list(range(9))
    assert document["results"][1]["results"][0]["values"][0]["value"] == results.rows[0]["log_p"]

    job = api.post("/v1/experiments", json={"protocol": FOUR}).json()
    assert job["progress"] == {"current": 9, "target": 9, "unit": "tasks", "stage": None}
    assert (job["data"], job["n"], job["method"]) == ("digits", 20, "tiny")
    where = next(link["href"] for link in job["links"] if link["rel"] == "report")
    page = api.get(where, headers={"Accept": "text/html"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'none'; ")
    assert "script-src" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.text.count("<svg") == 3
    assert "log P(f)" in page.text
    assert "| log P(f) |" in api.get(where, headers={"Accept": "text/markdown"}).text
    assert api.get(where, headers={"Accept": "text/csv"}).text == results.to_csv()
    problem(api.get(where, headers={"Accept": "image/png"}), 406, "not-acceptable")
    problem(api.get(where, headers={"Authorization": "Bearer none"}), 401, "unauthorized")
    assert api.head(where).status_code == 200

    shown = api.get(f"/jobs/{job['id']}").text
    assert f"{results.verdicts[0].kendall.value:.3f}" in shown
    assert api.get(f"/jobs/{job['id']}/results.svg").text.startswith("<svg")
    api.cookies.set("nngp-session", session_of(TOKEN))
    try:
        for path in (f"/jobs/{job['id']}/report.html", where):
            answer = api.get(path, headers={"Authorization": "", "Accept": "text/html"})
            assert answer.text == page.text
            assert answer.headers["content-security-policy"] == page.headers["content-security-policy"]
    finally:
        api.cookies.clear()


def test_results_over_http_are_those_of_the_library(api: TestClient, tmp_path: Path) -> None:
    document = api.post("/v1/experiments", json={"protocol": BITS}, headers=WAIT).json()
    assert (document["n"], document["networks"]) == (8, 8000)
    results = results_of_study(document["results"], document)
    assert_same_functions(results, FrequencyProtocol.model_validate(BITS), tmp_path)
    assert repr(results).startswith("<FrequencyResults bits, ")
    assert [row["task"] for row in document["results"]] == [
        *["sample"] * 4, *["choose"] * 2, *["quantity"] * 10, "study",
    ]  # fmt: skip
    job = api.post("/v1/experiments", json={"protocol": BITS}).json()
    assert (job["method"], job["progress"]["current"]) == ("bits", 17)
    shown = api.get(f"/jobs/{job['id']}").text
    assert "Correlation with log frequency" in shown
    assert f"{results.verdicts[0].kendall.value:.3f}" in shown
    assert api.get(f"/jobs/{job['id']}/results.svg").text.startswith("<svg")


def test_a_name_stands_for_its_protocol(held: tuple[TestClient, InProcess]) -> None:
    api, _ = held
    named = api.post("/v1/experiments", json={"protocol": "digits"})
    assert named.status_code == 201
    whole = ExperimentRequest.model_validate({"protocol": "digits"}).protocol.as_json
    again = api.post("/v1/experiments", json={"protocol": whole})
    assert (again.status_code, again.json()["id"]) == (200, named.json()["id"])
    assert again.json()["cost"]["seconds"] > 1
    problem(api.get(f"/v1/jobs/{again.json()['id']}/report"), 409, "result-not-ready")
    assert api.delete(f"/v1/jobs/{again.json()['id']}").json()["state"] == "dismissed"
    problem(api.get(f"/v1/jobs/{again.json()['id']}/report"), 410, "dismissed")


def test_jobs_of_other_kinds_have_no_report(api: TestClient) -> None:
    body = {"dataset": {"kind": "digits", "n": 6}, "labellings": [{"kind": "constant"}], "estimator": {"kind": "ep"}}
    job = api.post("/v1/estimates", json=body).json()
    assert "report" not in {link["rel"] for link in job["links"]}
    problem(api.get(f"/v1/jobs/{job['id']}/report"), 404, "not-found")


@pytest.mark.parametrize(
    ("change", "location", "part"),
    [
        ({"protocol": "digts"}, "body.protocol", "Did you mean digits?"),
        ({"protocol": "/etc/passwd.toml"}, "body.protocol", "Choose one of"),
        ({"protocol": {**TINY, "quantities": ["beauty"]}}, "body.protocol.networks.quantities.0.kind", "beauty"),
        ({"protocol": {**BITS, "seeds": 3}}, "body.protocol.seeds", "multiple of 2"),
        ({"protocol": {**BITS, "kind": "function"}}, "body.protocol.kind", "frequencies"),
        (
            {"protocol": {**TINY, "data": {**TINY["data"], "inputs_file": "x.npy"}}},
            "body.protocol.data.inputs_file",
            "x.npy",
        ),
        ({"protocol": {**TINY, "axes": {"wide": [1]}}}, "protocol.axes", "'wide'"),
        ({"protocol": {**TINY, "seeds": 10_000, "quantities": ["trace"] * 9}}, "protocol.seeds", "100,000 tasks"),
        ({"protocol": {**TINY, "axes": {"attack": [5000]}}}, "protocol.data (attack = 5000): n", "1,437"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(
    api: TestClient, change: dict[str, Any], location: str, part: str
) -> None:
    found = problem(api.post("/v1/experiments", json=change), 422, "invalid-request")
    assert found["errors"][0]["location"] == location
    assert part in found["detail"]


def test_data_that_are_missing(api: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNGP_DATA", str(tmp_path))
    found = problem(api.post("/v1/experiments", json={"protocol": "zhang2021-fcn-mnist"}), 422, "data-unavailable")
    assert "mnist" in found["detail"]


def test_networks_are_trained_before_their_quantities_and_the_study_comes_last(tmp_path: Path) -> None:
    runner = RequestRunner(KernelCache(tmp_path, 10**9), studies=tmp_path / "studies")
    request = ExperimentRequest.model_validate(BODY)
    plan = WORK["experiments"].plan(request, runner, Limits(2, 10**11))
    assert (plan.rows, plan.unit) == (7, "tasks")
    assert [(chunk.rows, chunk.phase) for chunk in plan.chunks] == [
        ((0,), 0), ((3,), 0), ((1, 2), 1), ((4, 5), 1), ((6,), 2),
    ]  # fmt: skip
    with pytest.raises(ResourceLimit, match=r"protocol: training at attack = 0 takes .* NNGP_MEMORY_LIMIT"):
        WORK["experiments"].plan(request, runner, Limits(2, 10**6))
    many = ExperimentRequest.model_validate({"protocol": {**TINY, "seeds": 10_000, "quantities": ["log-p"]}})
    with pytest.raises(ResourceLimit, match="the statistics of 20,000 networks take"):
        WORK["experiments"].plan(many, runner, Limits(2, 2 * 10**10))


def test_a_study_whose_job_is_deleted_leaves_no_folder(tmp_path: Path) -> None:
    with client(tmp_path) as api:
        api.post("/v1/experiments", json=BODY, headers=WAIT)
        service = api.app.state.service  # pyright: ignore[reportAttributeAccessIssue]
        folder = ExperimentRunner(service.runner.studies).folder(ExperimentRequest.model_validate(BODY))
        service._forget_studies()
        assert (folder / "report.html").is_file()
        assert not (folder / "kernels").exists()
        service.table.forget(0)
        service._forget_studies()
        assert not folder.exists()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service on a port, which computes in a thread."""
    home = tmp_path_factory.mktemp("service")
    server = uvicorn.Server(uvicorn.Config(create_app(settings(home), InProcess(home)), port=0, log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)


def test_a_client_has_the_results_of_the_library(url: str, tmp_path: Path) -> None:
    with Client(url, TOKEN) as remote:
        job = remote.experiment(TINY)
        results = job.result(60)
        assert_same(results, Protocol.model_validate(TINY), tmp_path)
        assert remote.experiment(Protocol.model_validate(TINY)).id == job.id
        assert job.report("csv") == results.to_csv()
        assert job.report().startswith("<!doctype html>")
        assert [task.task for task in job.results()][-1] == "study"
        with pytest.raises(InvalidInput, match="pdf"):
            job.report("pdf")
        with pytest.raises(InvalidInput, match="Did you mean digits"):
            remote.experiment("digts")
        other = remote.cost(ExperimentRequest.model_validate({"protocol": "digits"}))
        assert other["rows"] > 30
        with pytest.raises(NngpPriorError, match="no report"):
            remote.sample({"kind": "fully-connected", "width": 3}, {"kind": "boolean", "bits": 2}, 10).report()
