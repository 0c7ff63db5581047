"""Documents of megabytes: wrong ones are refused soon, right ones are encoded and decoded in pieces."""

import json
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.base import Specification
from nngp_prior.schemas.lists import ENOUGH
from nngp_prior.schemas.pieces import decode, encode, pieces
from nngp_prior.schemas.requests import BoundRequest, EstimateRequest, SampleRequest, SharpnessRequest
from nngp_prior.schemas.specs.data import Explicit, Inline
from nngp_prior.schemas.text import short

MANY = 5_000
DIGITS = {"kind": "digits"}
PARITY = {"kind": "parity"}
ESTIMATE = {"dataset": DIGITS, "labellings": [PARITY]}
SHARPNESS = {"dataset": DIGITS, "labelling": PARITY, "weights": {"dense 1/weight": "0" * 64}}


def values(*wrong: Any) -> dict[str, Any]:
    return {**ESTIMATE, "labellings": [{"kind": "explicit", "values": [1] * 250 + list(wrong) * MANY}]}


@pytest.mark.parametrize(
    ("model", "fields", "location"),
    [
        (EstimateRequest, values("a"), ("labellings", 0, "explicit", "values", 250)),
        (EstimateRequest, values(1, None), ("labellings", 0, "explicit", "values", 251)),
        (EstimateRequest, {**ESTIMATE, "labellings": [PARITY] * 150 + [{"kind": "no"}] * MANY}, ("labellings", 150)),
        (EstimateRequest, {**ESTIMATE, "labellings": [{**PARITY, "x": 1}] * MANY}, ("labellings", 0, "parity", "x")),
        (EstimateRequest, {**ESTIMATE, **{f"field {i}": 1 for i in range(MANY)}}, ("field 0",)),
        (EstimateRequest, {**ESTIMATE, "dataset": {"kind": "inline", "x": [[1]], "classes": ["a"] * MANY}}, ()),
        (BoundRequest, {**ESTIMATE, "sizes": ["a"] * MANY}, ("sizes",)),
        (SampleRequest, {"dataset": DIGITS, "complexities": ["a"] * MANY}, ("complexities",)),
        (SharpnessRequest, {**SHARPNESS, "measures": ["a"] * MANY}, ("measures",)),
        (SharpnessRequest, {**SHARPNESS, "weights": {f"dense {i}": 1 for i in range(3 * MANY)}}, ("weights",)),
        (SharpnessRequest, {**SHARPNESS, "architecture": {"kind": "convolutional", "layers": [1] * MANY}}, ()),
    ],
    ids=range(11),
)
def test_of_what_is_wrong_in_a_long_list_the_first_is_told(model: type, fields: Any, location: tuple[Any, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(model).validate_python(fields)
    assert caught.value.error_count() <= ENOUGH + 2
    assert caught.value.errors()[0]["loc"][: len(location)] == location


def test_long_lists_that_are_right_are_as_they_were() -> None:
    request = EstimateRequest.model_validate(values(-1))
    assert request.labellings == (Explicit(values=(1,) * 250 + (-1,) * MANY),)
    assert request.as_json == request.model_dump(mode="json")
    assert list(request.as_json) == list(request.model_dump())


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (
            EstimateRequest,
            {**ESTIMATE, "dataset": {"kind": "inline", "x": [[1, 2.5], [-0.0, True]], "classes": [0, 1]}},
        ),
        (EstimateRequest, {**ESTIMATE, "dataset": {"kind": "inline", "x": [[[[1.0]], [[1e300]]]]}}),
        (EstimateRequest, {**ESTIMATE, "architecture": {"kind": "convolutional", "layers": [{"kind": "pooling"}]}}),
        (SharpnessRequest, SHARPNESS),
        (SampleRequest, {"dataset": DIGITS, "complexities": ["entropy"]}),
    ],
)
def test_json_is_that_of_pydantic(model: type[Specification], fields: Any) -> None:
    specification = model.model_validate(fields)
    assert specification.as_json == specification.model_dump(mode="json")
    assert specification.content_hash == model.model_validate(specification.as_json).content_hash


def test_lists_with_text_make_no_array_as_wide_as_that() -> None:
    with pytest.raises(InvalidInput, match="text"):
        Inline(x=[["a" * 10**7, 1.0]] * 10**5)


@pytest.mark.parametrize(
    "document",
    [
        {"b": [[[0.1] * 40] * 1001, {}, [], {"x": "é", "a": None}], "a": [True] * MANY},
        {"z": {"y": list(range(MANY)), "x": -1e300}, "é": "☃"},
        [[]] * 3000,
        [[1], [2] * 3000, {"a": [3] * 3000}],
        [{"kind": "random", "seed": seed} for seed in range(MANY)],
        [],
        "text",
    ],
    ids=range(7),
)
def test_pieces_are_the_same_json(document: Any) -> None:
    for encoder in (json.JSONEncoder(), json.JSONEncoder(sort_keys=True, separators=(",", ":"))):
        assert "".join(pieces(document, encoder)) == encoder.encode(document)
    text = encode(document)
    assert decode(text) == decode(text.encode()) == document
    if len(text) > 10_000:
        assert max(map(len, pieces(document, json.JSONEncoder()))) < len(text)
        for broken in (text[:-1], text + "]", text.replace(",", ";", 1)):
            with pytest.raises(json.JSONDecodeError):
                decode(broken)


def test_hashes_are_of_the_canonical_document_and_not_copied() -> None:
    request = EstimateRequest.model_validate(ESTIMATE)
    before = request.content_hash
    assert request == EstimateRequest.model_validate(ESTIMATE)
    other = request.model_copy(update={"seed": 1})
    assert other.content_hash == EstimateRequest.model_validate({**ESTIMATE, "seed": 1}).content_hash != before


def test_long_values_are_shown_by_their_beginning() -> None:
    class Counted(int):
        shown = 0

        def __repr__(self) -> str:
            Counted.shown += 1
            return "7"

    assert short([[Counted(7)] * 1000] * 1000, 60) == f"[[{'7, ' * 18}7, …"
    assert Counted.shown < 1000
    assert short("a" * 10**6, 60).startswith("'aaa")
    for value in ((1,), (), {}, {"a": [1, (2, "b")]}, [None, 1.5], ("a", "b"), {1: {2: []}}):
        assert short(value) == repr(value)
