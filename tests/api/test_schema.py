"""Requests made up from the OpenAPI document, sensible and not: no 5xx, and every error a problem.

The slow tests make up more of them; ``NNGP_TEST_SEED`` asks for others.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from starlette.testclient import TestClient

from api.app import create_app
from tests.api import apps

SEED = int(os.environ.get("NNGP_TEST_SEED", "0"))
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
@pytest.mark.parametrize("examples", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_made_up_requests(api: TestClient, label: str, mode: GenerationMode, examples: int) -> None:
    if mode is GenerationMode.NEGATIVE and not _has_input(OPERATIONS[label]):
        pytest.skip("nothing to get wrong")

    @seed(SEED)
    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=not SEED,
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


DIGITS = {"kind": "digits", "n": 6}
ESTIMATE = {"dataset": DIGITS, "labellings": [{"kind": "constant"}]}
POSTERIOR = {**ESTIMATE, "train": 3}
WEIGHTS = {"dense 1/weight": "0" * 64}
SELECTION = {"dataset": DIGITS, "labelling": {"kind": "constant"}}
SHARPNESS = {"dataset": DIGITS, "labelling": {"kind": "constant"}, "weights": WEIGHTS}
STUDY = {
    "kind": "networks",
    "name": "tiny",
    "data": {"dataset": DIGITS, "labelling": {"kind": "parity"}, "test": 3},
    "quantities": ["log-p", "probit-log-p", "trace", {"kind": "fisher-trace"}],
    "axes": {"width": [2, 3], "optimizer": ["sgd", {"kind": "adam"}]},
}


def _allows(path: str, body: dict[str, Any]) -> bool:
    """What the document says of a body."""
    schema = SCHEMA.raw_schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    whole = {**schema, "components": SCHEMA.raw_schema["components"]}
    return jsonschema_rs.Draft202012Validator(whole).is_valid(body)


def _location(api: TestClient, path: str, body: dict[str, Any]) -> str | None:
    """Where the service finds a body at fault before it looks at the data; None if it does not."""
    answer = api.post(f"{path}?dry_run=true", json=body)
    locations = [error["location"] for error in answer.json().get("errors", ())]
    return next((location for location in locations if location.startswith("body.")), None)


@pytest.mark.parametrize(
    ("path", "body", "location"),
    [
        ("estimates", {**ESTIMATE, "dataset": {"n": 6}}, "dataset.kind"),
        ("estimates", {**ESTIMATE, "labellings": [{"at": 5}]}, "labellings.0.kind"),
        ("estimates", {**ESTIMATE, "architecture": {"depth": 1}}, "architecture.kind"),
        ("estimates", {**ESTIMATE, "estimator": {"particles": 8}}, "estimator.kind"),
        ("estimates", {**ESTIMATE, "estimator": {"kind": "laplace"}}, "estimator.noise_variance"),
        ("estimates", {**ESTIMATE, "dataset": {**DIGITS, "classes": [1, 2, 1.0]}}, "dataset.classes"),
        ("estimates", {**ESTIMATE, "dataset": {"kind": "inline", "x": []}}, "dataset.x"),
        ("estimates", {**ESTIMATE, "dataset": {"kind": "inline", "x": [1.0, 2.0]}}, "dataset.x"),
        ("estimates", {**ESTIMATE, "dataset": {"kind": "inline", "x": [[{}], ["a"]]}}, "dataset.x"),
        ("estimates", {**ESTIMATE, "dataset": {"kind": "boolean", "leave_out_zero": True}}, "dataset"),
        ("estimates", {**ESTIMATE, "labellings": [{"kind": "explicit", "values": []}]}, "labellings.0.values"),
        ("estimates", {**ESTIMATE, "labellings": [{"kind": "constant", "value": True}]}, "labellings.0.value"),
        ("estimates", {**ESTIMATE, "seed": False}, "seed"),
        ("estimates", {**ESTIMATE, "seed": "5"}, "seed"),
        ("estimates", {**ESTIMATE, "estimator": {"kind": "smc", "tolerance": "0.5"}}, "estimator.tolerance"),
        ("estimates", {**ESTIMATE, "architecture": {"kind": "residual", "layer_norm": 1}}, "architecture.layer_norm"),
        ("bounds", {**ESTIMATE, "sizes": [True]}, "sizes.0"),
        ("posteriors", {**POSTERIOR, "estimator": {"particles": 8}}, "estimator.kind"),
        ("posteriors", {**POSTERIOR, "estimator": {"kind": "smc", "target_stderr": 0.1}}, "estimator"),
        ("selections", {**SELECTION, "family": []}, "family"),
        ("selections", {**SELECTION, "family": [{"depth": 1}]}, "family.0.kind"),
        ("selections", {**SELECTION, "weight_std": [0, 1]}, "weight_std.0"),
        ("selections", {**SELECTION, "bias_std": [1]}, "bias_std.1"),
        ("selections", {**SELECTION, "estimator": {"kind": "smc", "classes": 3}}, "estimator"),
        ("sharpness", {**SHARPNESS, "weights": {**WEIGHTS, "dense one": "0" * 64}}, "weights.dense one.[key]"),
        ("sharpness", {**SHARPNESS, "measures": [{"kind": "eigenvalues", "largest": 0, "smallest": 0}]}, "measures.0"),
        (
            "sharpness",
            {**SHARPNESS, "measures": [{"kind": "keskar", "mode": "zhang2021", "subspace": 5}]},
            "measures.0",
        ),
        ("experiments", {"protocol": "digts"}, "protocol"),
        ("experiments", {"protocol": {**STUDY, "quantities": ["beauty"]}}, "protocol.quantities.0.kind"),
        ("experiments", {"protocol": {**STUDY, "axes": {"width": []}}}, "protocol.axes.width"),
        ("experiments", {"protocol": {**STUDY, "seeds": 0}}, "protocol.seeds"),
        ("experiments", {"protocol": {**STUDY, "name": "Not a name"}}, "protocol.name"),
    ],
)
def test_document_and_service_refuse_the_same(api: TestClient, path: str, body: dict[str, Any], location: str) -> None:
    assert not _allows(f"/v1/{path}", body)
    assert _location(api, f"/v1/{path}", body) == f"body.{location}"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("estimates", {**ESTIMATE, "seed": 5.0, "dataset": {"kind": "inline", "x": [[True, 1], [0.5, 2]]}}),
        ("estimates", {**ESTIMATE, "dataset": {"kind": "inline", "x": [[[1, 2]], [[3, 4]]], "classes": [0, 0]}}),
        ("estimates", {**ESTIMATE, "dataset": {"kind": "boolean", "leave_out_zero": True, "encoding": "bits"}}),
        ("estimates", {**ESTIMATE, "labellings": [{"kind": "explicit", "values": [1, -1.0, 1, 1, 1, 1]}]}),
        ("posteriors", {**POSTERIOR, "estimator": {"kind": "smc", "classes": None, "particles": 8}}),
        ("selections", {**SELECTION, "family": [{"kind": "residual"}], "weight_std": [1, 2.5], "train": 3}),
        ("sharpness", {**SHARPNESS, "measures": [{"kind": "contrastive-flatness", "of": "trace"}]}),
        ("sharpness", {**SHARPNESS, "measures": [{"kind": "eigenvalues", "largest": 0}]}),
        ("sharpness", {**SHARPNESS, "measures": [{"kind": "keskar", "mode": "zhang2021", "subspace": None}]}),
        ("experiments", {"protocol": "digits"}),
        ("experiments", {"protocol": STUDY}),
    ],
)
def test_document_and_service_take_the_same(api: TestClient, path: str, body: dict[str, Any]) -> None:
    assert _allows(f"/v1/{path}", body)
    assert _location(api, f"/v1/{path}", body) is None
