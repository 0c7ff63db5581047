"""Events of a job over HTTP, and answers that wait for a change."""

import threading
import time

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tests.api.apps import WAIT, InProcess, problem, request
from tests.system.server import wait_for


@pytest.mark.parametrize(
    ("prefer", "applied"), [("wait=0", "wait=0"), ("respond-async, wait=1", "wait=1"), ("wait=9999", "wait=30")]
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
