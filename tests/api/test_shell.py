"""What every route has: token, host, limits of bodies, problems, ids, logs, metrics."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from api.middleware import OPEN, SIGN_IN
from api.problems import Problem, StorageFull, problem_of
from nngp_prior.errors import DataMissing, InvalidInput, InvalidLabels, NngpPriorError, ResourceLimit
from tests.api.apps import BEARER, TOKEN, InProcess, client, problem, settings
from tests.system.server import wait_for

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "FROBNICATE")


WRONG = ("", f"Bearer {TOKEN}x", "Bearer", "Bearer wrong", f"Basic {TOKEN}", "Bearer \xe9", TOKEN)
DIGITS = {"kind": "digits", "n": 20}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with client(tmp_path_factory.mktemp("shell"), max_body_bytes=2_000, allowed_hosts="box.lab, other") as served:
        yield served


def application(api: TestClient) -> FastAPI:
    assert isinstance(api.app, FastAPI)
    return api.app


def paths(app: FastAPI) -> set[str]:
    """Of all routes, in OpenAPI or not."""
    found = set()
    for route in app.routes:
        contexts = getattr(route, "effective_route_contexts", None)
        found |= {part.path for part in (contexts() if contexts else [route])}
    return {re.sub(r"\{.*?\}", "0" * 64, path) for path in found}


def test_every_route_asks_for_the_token(api: TestClient) -> None:
    everything = paths(application(api))
    assert {"/healthz", "/docs", "/openapi.json", "/metrics", "/v1/catalogue", "/v1/kernels"} < everything
    for path in everything | {"/nowhere", "/healthz/", "//healthz", "/v1/../healthz/x"}:
        for method in METHODS:
            for wrong in WRONG if method == "GET" else WRONG[:2]:
                answer = api.request(method, path, headers={"Authorization": wrong.encode("latin-1")})
                if path in OPEN:
                    entering = (path, method) == (SIGN_IN, "POST")
                    assert answer.status_code == (401 if entering else 200 if method in ("GET", "HEAD") else 405)
                    break
                assert answer.status_code == 401, (method, path, wrong)
                if method != "HEAD":
                    problem(answer, 401, "unauthorized")
                assert answer.headers["www-authenticate"] == "Bearer"


def test_web_sockets_ask_for_it_too(api: TestClient) -> None:
    with (
        pytest.raises(Problem, match="token"),
        api.websocket_connect("ws://localhost/v1", headers={"Authorization": ""}),
    ):
        pass


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "", "localhost:80:80"]
)
def test_other_hosts_are_refused(api: TestClient, host: str) -> None:
    for path in ("/healthz", "/v1/catalogue"):
        problem(api.get(path, headers={"Host": host}), 400, "forbidden-host")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]", "[::1]:8000", "box.lab:80", "other"]
)
def test_known_hosts(api: TestClient, host: str) -> None:
    assert api.get("/v1/catalogue", headers={"Host": host}).status_code == 200


def test_unknown_paths_and_methods(api: TestClient) -> None:
    problem(api.get("/nowhere"), 404, "not-found")
    problem(api.get("/v1/datasets/"), 404, "not-found")
    problem(api.get(f"/v1/datasets/{'0' * 64}"), 404, "not-found")
    answer = api.patch("/v1/datasets")
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"
    answer = api.options("/v1/datasets", headers={"Origin": "https://evil.example"})
    problem(answer, 405, "method-not-allowed")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    problem(api.patch(f"/v1/blobs/{'0' * 64}"), 405, "method-not-allowed")


@pytest.mark.parametrize("path", ["/healthz", "/v1/catalogue", "/v1/jobs", "/openapi.json", "/docs", "/metrics"])
def test_head_is_get_without_the_body(api: TestClient, path: str) -> None:
    head, get = api.head(path), api.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    if path != "/metrics":  # which counts the request itself
        assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.content))


def test_head_of_what_has_no_get(api: TestClient) -> None:
    assert api.head("/nowhere").status_code == 404
    assert api.head(f"/v1/datasets/{'0' * 64}").status_code == 404
    assert api.head("/v1/estimates").status_code == 405
    assert api.head(f"/v1/blobs/{'0' * 64}").headers["content-type"] == "application/problem+json"


def test_bodies_that_are_too_large(api: TestClient) -> None:
    whole = b'{"kind": "digits", "n": 20' + b" " * 2_000 + b"}"
    headers = {"Content-Type": "application/json"}
    assert (
        "2,000 bytes"
        in problem(api.post("/v1/datasets", content=whole, headers=headers), 413, "body-too-large")["detail"]
    )
    parts = (whole[i : i + 500] for i in range(0, len(whole), 500))
    problem(api.post("/v1/datasets", content=parts, headers=headers), 413, "body-too-large")
    problem(api.request("GET", "/nowhere", content=whole), 413, "body-too-large")


def test_bodies_of_other_types(api: TestClient) -> None:
    content = json.dumps(DIGITS)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        headers = {"Content-Type": kind}
        problem(api.post("/v1/datasets", content=content, headers=headers), 415, "unsupported-media-type")
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    problem(api.post("/v1/datasets", content=content, headers=headers), 415, "unsupported-media-type")
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert api.post("/v1/datasets", content=content, headers=headers).status_code == 201


@pytest.mark.parametrize(
    ("content", "location"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"null", "body"),
        (b"7", "body"),
        (b"[1]", "body"),
        (b'"digits"', "body"),
        (b'{"n": 20}', "body.kind"),
        (b'{"kind": "digitz"}', "body.kind"),
        (b'{"kind": "digits", "n": 0}', "body.n"),
        (b'{"kind": "digits", "n": 1e400}', "body.n"),
        (b'{"kind": "digits", "n": NaN}', "body.n"),
        (b'{"kind": "digits", "more": "\\ud800"}', "body.more"),
        (b'{"kind": "inline", "x": [[1], [1, 2]]}', "body.x"),
        (b'{"kind": "digits", "n": 99999}', "n"),
    ],
    ids=range(14),
)
def test_bodies_that_are_wrong_name_the_place(api: TestClient, content: bytes, location: str) -> None:
    answer = api.post("/v1/datasets", content=content, headers={"Content-Type": "application/json"})
    found = problem(answer, 422, "invalid-request")
    assert [error["location"] for error in found["errors"]] == [location]
    assert found["detail"].startswith(f"{location}: ")


@pytest.mark.parametrize(
    "content", [b"\xff\xfe{", b"[" * 1_999, b'{"kind": "digits", "n": ' + b"9" * 1_900 + b"}"], ids=range(3)
)
def test_bodies_that_break_parsers(api: TestClient, content: bytes) -> None:
    answer = api.post("/v1/datasets", content=content, headers={"Content-Type": "application/json"})
    problem(answer, 422, "invalid-request")


def test_all_problems_are_told_at_once_without_the_kinds_between(api: TestClient) -> None:
    request = {
        "dataset": {"kind": "digits", "n": -1},
        "labellings": [{"kind": "threshold"}, {"kind": "nothing"}, {"kind": "parity"}],
        "x": 1,
    }
    errors = problem(api.post("/v1/labellings", json=request), 422, "invalid-request")["errors"]
    assert {error["location"] for error in errors} == {
        "body.dataset.n",
        "body.labellings.0.at",
        "body.labellings.1.kind",
        "body.x",
    }


def test_a_list_is_not_called_too_short_because_its_parts_are_wrong(api: TestClient) -> None:
    request = {"dataset": DIGITS, "labellings": [{"kind": "threshold", "at": "five"}]}
    [error] = problem(api.post("/v1/estimates", json=request), 422, "invalid-request")["errors"]
    assert error["location"] == "body.labellings.0.at"
    [error] = problem(api.post("/v1/estimates", json={**request, "labellings": []}), 422, "invalid-request")["errors"]
    assert error["location"] == "body.labellings"


@pytest.mark.parametrize(
    ("fields", "location", "message"),
    [
        ({"dataset": 5}, "body.dataset", "got 5. Give an object with named fields."),
        ({"dataset": {"n": 5}}, "body.dataset.kind", "is missing (got {'n': 5}). Say which kind it is."),
        ({"labellings": ["parity"]}, "body.labellings.0", "got 'parity'. Give an object with named fields."),
        (
            {"dataset": {"kind": "blob", "sha256": "abc"}},
            "body.dataset.sha256",
            "got 'abc'. Give 64 hexadecimal digits, 0-9 and a-f.",
        ),
    ],
)
def test_problems_are_told_in_our_own_words(api: TestClient, fields: object, location: str, message: str) -> None:
    assert isinstance(fields, dict)
    request = {"dataset": DIGITS, "labellings": [{"kind": "parity"}], **fields}
    [error] = problem(api.post("/v1/estimates", json=request), 422, "invalid-request")["errors"]
    assert error == {"location": location, "message": message}
    [error] = problem(api.get("/v1/jobs/abc"), 422, "invalid-request")["errors"]
    assert error["message"] == "got 'abc'. Give 64 hexadecimal digits, 0-9 and a-f."


def test_the_table_of_problems() -> None:
    for error, status, code in [
        (StorageFull("full"), 507, "storage-full"),
        (OSError(28, "No space left on device"), 507, "storage-full"),
        (ResourceLimit("n"), 422, "kernel-too-large"),
        (DataMissing("no file"), 422, "data-unavailable"),
        (InvalidLabels("a", "b", "c"), 422, "invalid-labels"),
        (NngpPriorError("x"), 422, "invalid-request"),
        (OSError(5, "secret path"), 500, "internal-error"),
        (RuntimeError("secret"), 500, "internal-error"),
    ]:
        found = problem_of(error)
        assert (found.status, found.code) == (status, code)
        assert "secret" not in str(found.document())
    assert problem_of(InvalidInput("n", "got 0", "Use 1.")).errors == [{"location": "n", "message": "got 0. Use 1."}]


def test_our_own_errors_tell_nothing_and_are_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = create_app(settings(tmp_path), InProcess(tmp_path))

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("the inside")

    @app.get("/broken-disk")
    def broken_disk() -> None:
        raise OSError(5, "the inside")

    with TestClient(app, base_url="http://localhost", headers=BEARER) as api:
        for path in ("/broken", "/broken-disk"):
            answer = api.get(path, headers={"X-Request-ID": "mine-1"})
            problem(answer, 500, "internal-error")
            assert "inside" not in answer.text
            assert answer.headers["x-request-id"] == "mine-1"
            logged = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
            [line] = [line for line in logged if line["level"] == "error"]
            assert line["request_id"] == "mine-1"
            assert "the inside" in line["exception"]
            assert "Traceback" in line["exception"]


def test_request_ids_are_ours_unless_they_are_harmless(api: TestClient) -> None:
    for given in ("a b", "x" * 65, 'a"b', "é"):
        used = api.get("/healthz", headers={"X-Request-ID": given.encode()}).headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{32}", used)


def test_others_log_through_ours(capsys: pytest.CaptureFixture[str]) -> None:
    from api import logs

    uvicorn = logging.getLogger("uvicorn.access")
    uvicorn.addHandler(logging.StreamHandler())
    logs.configure()
    logs.configure()
    uvicorn.info('%s - "%s"', "client", "GET / HTTP/1.1")
    assert capsys.readouterr().err == ""  # a line for each request is for debugging
    logs.configure(logging.DEBUG)
    uvicorn.info('%s - "%s"', "client", "GET / HTTP/1.1")
    logs.configure()
    [line] = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == 'client - "GET / HTTP/1.1"'
    assert (json.loads(line)["logger"], json.loads(line)["level"]) == ("uvicorn.access", "debug")


def test_metrics(tmp_path: Path) -> None:
    executor = InProcess(tmp_path)
    executor.go_on.clear()
    with client(tmp_path, executor) as api:
        request = {"dataset": {"kind": "digits", "n": 5}, "labellings": [{"kind": "constant"}]}
        for seed in (0, 1):
            api.post("/v1/estimates", json=request | {"seed": seed})
        api.get("/v1/catalogue")
        api.get("/nowhere", headers={"Authorization": "none"})
        wait_for(lambda: 'nngp_units{state="running"} 1.0' in api.get("/metrics").text.splitlines(), 10)
        lines = api.get("/metrics").text.splitlines()
    assert 'nngp_jobs{state="running"} 1.0' in lines
    assert 'nngp_jobs{state="accepted"} 1.0' in lines
    assert 'nngp_units{state="waiting"} 1.0' in lines
    assert 'nngp_stored_bytes{what="blobs"} 0.0' in lines
    assert 'nngp_capacity{what="slots"} 1.0' in lines
    assert 'http_requests_total{handler="/v1/catalogue",method="GET",status="2xx"} 1.0' in lines


def test_readiness(tmp_path: Path) -> None:
    with client(tmp_path) as api:
        assert api.get("/readyz").status_code == 200
        api.app.state.service.dispatcher.stop()
        found = problem(api.get("/readyz"), 503, "not-ready")
        assert [error["location"] for error in found["errors"]] == ["executor"]
        assert found["retryable"]
        assert api.get("/healthz").status_code == 200
    with client(tmp_path, min_free_disk=2**60) as api:
        assert problem(api.get("/readyz"), 503, "not-ready")["errors"][0]["location"] == "disk"


def test_readiness_tells_of_a_worker_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = InProcess(tmp_path)
    with client(tmp_path, executor) as api:
        monkeypatch.setattr(executor, "problem", lambda: "A process hangs.")
        [error] = problem(api.get("/readyz"), 503, "not-ready")["errors"]
        assert error["location"] == "executor"
        assert error["message"] == "A process hangs."


def test_readiness_tells_of_others_in_the_store(tmp_path: Path) -> None:
    def places(api: TestClient) -> list[str]:
        return [error["location"] for error in problem(api.get("/readyz"), 503, "not-ready")["errors"]]

    with client(tmp_path, lease_seconds=0.3) as api:
        lock = tmp_path / "service.lock"
        lock.unlink()
        assert places(api) == ["store"]
        lock.touch()  # another service
        assert places(api) == ["store"]
    url = f"sqlite:///{tmp_path / 'shared.sqlite'}"
    with client(tmp_path / "one", database_url=url) as api:
        assert api.get("/readyz").status_code == 200
        with client(tmp_path / "two", database_url=url) as other:
            wait_for(lambda: api.get("/readyz").status_code == 503, 10)
            assert places(api) == ["database"]
            body = {"dataset": {"kind": "digits", "n": 5}, "labellings": [{"kind": "constant"}]}
            assert "results" in other.post("/v1/estimates", json=body, headers={"Prefer": "wait=30"}).json()
            assert other.get("/readyz").status_code == 200
