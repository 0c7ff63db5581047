"""Every number of every request at its extremes and far beyond them; the fields are those of the OpenAPI document."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from starlette.testclient import TestClient

from api.app import create_app
from tests.api import apps

DOCUMENT = create_app(apps.settings(Path("unused"))).openapi()
WEIGHT = apps.npy(np.ones((2, 1)))
SHA = apps.sha256(WEIGHT)
X = [[[1.0], [2.0]], [[3.0], [1.0]], [[0.0], [1.0]]]  # three images of 2 × 1
# What a schema cannot say: inputs of one shape, an array that is there, weights that fit the network.
GIVEN: dict[str, Any] = {
    "x": X,
    "sha256": SHA,
    "weights": {"dense 1/weight": SHA},
    "dataset": {"kind": "inline", "x": X},
    "labellings": [{"kind": "random"}],
    "labelling": {"kind": "random"},
    "name": "own",
}
PLAIN = {"kind": "fully-connected", "depth": 0, "bias_std": 0}
BEYOND = [10**30, -(10**300), 10**400]  # beyond 64-bit integers, and beyond floating-point numbers


class Number(NamedTuple):
    """A number somewhere in a body."""

    place: str
    schema: dict[str, Any]
    body: Callable[[Any], Any]
    field: str = ""  # with the innermost specification that has it, wherever that stands

    @property
    def extremes(self) -> list[float]:
        """The least and the largest that the schema allows."""
        schema, step = self.schema, 1 if self.schema["type"] == "integer" else 1e-9
        least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + step)
        return [least, schema.get("maximum", schema.get("exclusiveMaximum", 0) - step)]

    @property
    def beyond(self) -> list[int]:
        """Far outside."""
        least, most = self.extremes
        return [value for value in BEYOND if not least <= value <= most]


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def members(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [resolved(each) for each in schema.get("oneOf", schema.get("anyOf", ()))]


def minimal(schema: dict[str, Any]) -> Any:
    schema = resolved(schema)
    for word in ("default", "const"):
        if word in schema:
            return schema[word]
    if "enum" in schema:
        return schema["enum"][0]
    if members(schema):
        return minimal(members(schema)[-1])
    match schema.get("type"):
        case "object":
            parts, required = schema.get("properties", {}), schema.get("required", ())
            return {
                name: GIVEN[name] if name in GIVEN else minimal(parts[name])
                for name in parts
                if name in {"kind", *required}
            }
        case "array":
            return [minimal(schema["items"])] * schema.get("minItems", 0) if "items" in schema else None
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "string" | "boolean" | "null":
            return None
    raise AssertionError(schema)


def numbers(schema: dict[str, Any], place: str) -> Iterator[Number]:
    schema = resolved(schema)
    for member in members(schema):
        yield from numbers(member, place)
    match schema.get("type"):
        case "integer" | "number" if "enum" not in schema and "const" not in schema:
            yield Number(place, schema, lambda value: value)
        case "array":
            parts = schema.get("prefixItems", [schema.get("items", {})])
            for number in numbers(parts[0], place):
                yield number._replace(body=lambda value, body=number.body: [body(value)] * len(parts))
        case "object":
            whole = minimal(schema)
            for name, part in schema.get("properties", {}).items():
                for number in numbers(part, f"{place}.{name}"):
                    yield number._replace(
                        body=lambda value, body=number.body, name=name: {**whole, name: body(value)},
                        field=number.field or f"{schema['title']}.{name}",
                    )


def largest(schema: dict[str, Any]) -> Any:
    """Every number at its upper bound, lists with one part."""
    schema = resolved(schema)
    if members(schema):
        return largest(members(schema)[0])
    match schema.get("type"):
        case "integer" | "number" if "enum" not in schema and "const" not in schema:
            return Number("", schema, lambda value: value).extremes[1]
        case "array" if schema.get("items"):
            return [largest(schema["items"])]
        case "object" if "properties" in schema:
            parts = schema["properties"].items()
            values = {name: GIVEN[name] if name in GIVEN else largest(part) for name, part in parts}
            return {name: value for name, value in values.items() if value is not None and name != "corruption"}
    return schema.get("default", schema.get("const", minimal(schema)))


ROUTES = {
    path: operations["post"]["requestBody"]["content"]["application/json"]["schema"]
    for path, operations in DOCUMENT["paths"].items()
    if "application/json" in operations.get("post", {}).get("requestBody", {}).get("content", {})
}


@functools.cache
def numbers_of(path: str) -> tuple[Number, ...]:
    return tuple(numbers(ROUTES[path], "body"))


def fields(path: str) -> Iterator[Number]:
    """Each field at the first route that has it: one class validates a specification, wherever it stands.

    What each route makes of specifications with large numbers, its price above all, the last test tries.
    """
    routes = list(ROUTES)
    seen = {number.field for other in routes[: routes.index(path)] for number in numbers_of(other)}
    for number in numbers_of(path):
        if number.field not in seen:
            seen.add(number.field)
            yield number


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    home = tmp_path_factory.mktemp("home")
    executor = apps.InProcess(home)
    executor.go_on.clear()  # what is accepted is not computed
    with pytest.MonkeyPatch.context() as patch, apps.client(home, executor, queue_limit=10**6) as served:
        patch.setenv("NNGP_DATA", str(home))
        headers = {"Content-Type": "application/octet-stream"}
        assert served.put(f"/v1/blobs/{SHA}", content=WEIGHT, headers=headers).status_code == 201
        yield served


def post(api: TestClient, path: str, body: Any) -> Any:
    if path == "/v1/sharpness":
        body = {"architecture": PLAIN, **body}
    return api.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})


def test_all_routes_with_numbers_are_found() -> None:
    assert {"/v1/estimates", "/v1/samples", "/v1/sharpness", "/v1/datasets", "/v1/labellings"} <= set(ROUTES)
    every = [number for path in ROUTES for number in numbers_of(path)]
    assert len(every) > 400
    assert {number.field for number in every} == {number.field for path in ROUTES for number in fields(path)}


@pytest.mark.parametrize("path", ROUTES)
def test_every_number_has_bounds_that_mean_something(path: str) -> None:
    for number in numbers_of(path):
        for ends in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
            assert any(abs(number.schema.get(end, 10**200)) <= 1e100 for end in ends), number.place


@pytest.mark.parametrize("path", ROUTES)
def test_numbers_beyond_their_bounds_are_refused_by_name(api: TestClient, path: str) -> None:
    for number in fields(path):
        for value in number.beyond:
            problem = apps.problem(post(api, path, number.body(value)), 422, "invalid-request")
            field = number.place.rpartition(".")[2]
            assert any(field in error["location"].split(".") for error in problem["errors"]), (number.place, problem)
            assert str(value)[:9] in problem["detail"], (number.place, problem)


@pytest.mark.parametrize("path", ROUTES)
def test_text_and_truth_values_are_no_numbers(api: TestClient, path: str) -> None:
    for number in fields(path):
        for value in (str(number.extremes[0]), True):
            problem = apps.problem(post(api, path, number.body(value)), 422, "invalid-request")
            assert any(number.place.rpartition(".")[2] in error["location"].split(".") for error in problem["errors"])


@pytest.mark.parametrize("path", ROUTES)
def test_numbers_at_their_bounds_are_priced_or_refused(api: TestClient, path: str) -> None:
    for number in fields(path):
        for value in number.extremes:
            answer = post(api, path, number.body(value))
            assert answer.status_code < 500, (number.place, value, answer.text)


@pytest.mark.parametrize("path", ROUTES)
def test_all_numbers_at_their_bounds_together_are_priced_or_refused(api: TestClient, path: str) -> None:
    schema = resolved(ROUTES[path])
    whole = minimal(schema)
    for name, part in schema.get("properties", {}).items():
        if name in GIVEN and path != "/v1/labellings":
            continue
        inner = resolved(part.get("items", part))
        for member in members(inner) or [inner]:
            value = largest(member)
            answer = post(api, path, {**whole, name: [value] if "items" in part else value})
            assert answer.status_code < 500, (name, value, answer.text)
