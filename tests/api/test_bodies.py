"""Large bodies of JSON: what they may hold, and what becomes of those that are wrong."""

import asyncio
import gc
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.bodies import BodyLimits
from nngp_prior.schemas.pieces import decode
from tests.api.apps import TOKEN, client, problem, settings

DIGITS = {"kind": "digits", "n": 20}
JSON = {"Content-Type": "application/json"}


def test_what_is_said_of_a_large_body_is_short(api: TestClient) -> None:
    label = {"kind": "explicit", "values": ["a" * 10] * 20}
    body = {"dataset": DIGITS, "labellings": [label] * 5, "x" * 900: 1}
    answer = api.post("/v1/estimates", json=body)
    assert len(problem(answer, 422, "invalid-request")["errors"]) == 20
    assert len(answer.content) < 5_000
    field = problem(api.post("/v1/datasets", json={**DIGITS, "x" * 900: 1}), 422, "invalid-request")["errors"]
    assert field[0]["location"] == f"body.{'x' * 100}…"


def test_bodies_with_too_many_values(tmp_path: Path) -> None:
    with client(tmp_path, max_body_values=30) as api:
        body = {"dataset": {"kind": "inline", "x": [[1, 2]] * 10}, "labellings": [{"kind": "constant"}]}
        found = problem(api.post("/v1/estimates", json=body), 413, "too-many-values")
        assert "37 values, and 30 are allowed (NNGP_MAX_BODY_VALUES). Upload" in found["detail"]
        del body["dataset"]["x"][:3]
        assert api.post("/v1/estimates?dry_run=true", json=body).status_code == 200


def test_large_bodies_are_not_read_on_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = []

    def watched(*given: Any) -> Any:
        where.append(asyncio._get_running_loop())
        return decode(*given)

    monkeypatch.setattr("api.bodies.decode", watched)
    with client(tmp_path) as api:
        for rows in (10, 10_000):
            labellings = [{"kind": "random", "seed": seed} for seed in range(rows)]
            body = {"dataset": DIGITS, "labellings": labellings, "estimator": {"kind": "ep"}}
            assert api.post("/v1/estimates?dry_run=true", json=body).json()["rows"] == rows
    assert [loop is None for loop in where] == [False, True]


def test_only_some_large_bodies_are_held_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are not read until one of these is answered."""
    monkeypatch.setattr("api.bodies._HELD", 2)
    held: set[int] = set()
    most, go_on = [], asyncio.Event()

    async def hold(scope: Any, receive: Any, _: Any) -> None:
        await receive()
        held.add(scope["client"])
        most.append(len(held))
        await go_on.wait()
        held.discard(scope["client"])

    limits = BodyLimits(hold, settings(tmp_path))

    async def nothing(_: Any) -> None:
        pass

    async def request(number: int) -> None:
        part = {"type": "http.request", "body": bytes(2**17), "more_body": True}
        parts = iter([part] * 3 + [{**part, "more_body": False}])

        async def receive() -> Any:
            return next(parts)

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/v1/datasets", "headers": headers, "client": number}
        await limits(scope, receive, nothing)

    async def all_of_them() -> None:
        running = [asyncio.create_task(request(number)) for number in range(5)]
        await asyncio.sleep(0.05)
        assert len(held) == 2
        go_on.set()
        await asyncio.gather(*running)
        assert max(most) <= 2

    asyncio.run(all_of_them())


def test_objects_with_too_many_members(api: TestClient) -> None:
    problem(api.post("/v1/datasets", json={**DIGITS, **{str(i): i for i in range(20_000)}}), 422, "invalid-request")


def test_bodies_of_open_paths_are_short(api: TestClient) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for path in ("/sign-in", "/healthz", "/readyz"):
        found = problem(api.post(path, content=b"token=" + b"x" * 1_019, headers=form), 413, "body-too-large")
        assert found["detail"] == "The body is longer than 1,024 bytes. Send less."
    assert api.post("/sign-in", content=b"token=" + b"x" * 1_018, headers=form).status_code == 401
    assert api.post("/sign-in", content=b"a&b=1&" * 9 + f"token={TOKEN}".encode(), headers=form).status_code == 401


def test_nothing_of_a_wrong_body_is_kept(api: TestClient) -> None:
    """Without the help of the garbage collector, which runs seldom."""
    body = {"dataset": {"kind": "inline", "x": [["a"] * 12_345]}, "labellings": [{"kind": "parity"}]}
    content = json.dumps(body)
    del body
    gc.disable()
    try:
        problem(api.post("/v1/estimates", content=content, headers=JSON), 422, "invalid-request")
        assert not any(type(each) is list and len(each) == 12_345 for each in gc.get_objects())
    finally:
        gc.enable()
