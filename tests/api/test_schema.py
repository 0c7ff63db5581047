"""Requests made up from the OpenAPI document, sensible and not: no 5xx, and every error a problem."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from starlette.testclient import TestClient

from api.app import create_app
from tests.api import apps

PROBLEM = {"type", "title", "status", "detail", "code", "errors", "request_id", "retryable"}
SCHEMA = schemathesis.openapi.from_dict(create_app(apps.settings(Path("unused"))).openapi())
OPERATIONS = {operation.ok().label: operation.ok() for operation in SCHEMA.get_all_operations()}


@schemathesis.serializer("application/x-npy")
def _as_it_is(_: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    home = tmp_path_factory.mktemp("home")
    executor = apps.InProcess(home)
    executor.go_on.clear()  # what is accepted is not computed: requests are what is tested
    with pytest.MonkeyPatch.context() as patch, apps.client(home, executor) as served:
        patch.setenv("NNGP_DATA", str(home))  # nor are 60,000 images loaded for each request
        yield served


def test_all_routes_are_in_the_document() -> None:
    assert len(OPERATIONS) > 20


@pytest.mark.parametrize("label", sorted(OPERATIONS))
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_made_up_requests(api: TestClient, label: str, mode: GenerationMode) -> None:
    if mode is GenerationMode.NEGATIVE and not _has_input(OPERATIONS[label]):
        pytest.skip("nothing to get wrong")

    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any) -> None:
        sent = case.as_transport_kwargs(base_url="http://localhost")
        answer = api.request(
            sent["method"],
            sent["url"],
            params=sent.get("params"),
            headers={**dict(sent["headers"]), **apps.BEARER},
            json=sent.get("json"),
            content=sent.get("data"),
        )
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400 and sent["method"] != "HEAD":
            assert answer.headers["content-type"] == "application/problem+json"
            found = answer.json()
            assert set(found) == PROBLEM
            assert found["status"] == answer.status_code
            assert found["detail"]

    check()


def _has_input(operation: Any) -> bool:
    return any(True for _ in operation.iter_parameters()) or bool(operation.body)
