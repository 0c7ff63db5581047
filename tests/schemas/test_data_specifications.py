"""Data sets and labellings as specifications: content hashes, and what is refused."""

from typing import get_args

import numpy as np
import pytest
from pydantic import TypeAdapter

from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.base import Specification
from nngp_prior.schemas.specs.data import (
    Boolean,
    Cifar10,
    Classes,
    Constant,
    Corruption,
    Dataset,
    Digits,
    Explicit,
    FashionMnist,
    Flip,
    Inline,
    Labelling,
    Mnist,
    OneVsRest,
    Parity,
    Randomise,
    RandomLabels,
    Threshold,
    TwoClasses,
)

IMAGES = {"n": 5, "split": "test", "seed": 1, "preprocessing": "none", "classes": (3, 1)}
CORRUPTION = {"corruption": Flip(count=1)}

# A specification, and for each of its fields but the kind a value that it does not have.
OTHER_VALUES: list[tuple[Specification, dict[str, object]]] = [
    (Digits(), IMAGES),
    (Mnist(), IMAGES),
    (FashionMnist(), IMAGES),
    (Cifar10(), IMAGES),
    (Cifar10(classes=(3, 1)), IMAGES | {"classes": (3, 2)}),
    (
        Boolean(encoding="bits", leave_out_zero=True),
        {"n": 5, "seed": 1, "bits": 3, "encoding": "bits", "leave_out_zero": False, "preprocessing": "standardise"},
    ),
    (
        Inline(x=[[1, 2], [3, 4]], classes=(0, 1)),
        {"n": 1, "seed": 1, "x": ((1, 2), (3, 5)), "classes": (1, 1), "preprocessing": "unit-norm"},
    ),
    (Threshold(at=5), CORRUPTION | {"at": 4}),
    (Threshold(at=5, corruption=Flip(count=1)), {"at": 4, "corruption": Flip(count=2)}),
    (Threshold(at=5, corruption=Flip(count=1)), {"at": 4, "corruption": Flip(count=1, seed=1)}),
    (Parity(), CORRUPTION),
    (OneVsRest(label=3), CORRUPTION | {"label": 4}),
    (TwoClasses(positive=3, negative=1), CORRUPTION | {"positive": 2, "negative": 2}),
    (Classes(), CORRUPTION),
    (RandomLabels(), CORRUPTION | {"seed": 1}),
    (Constant(), CORRUPTION | {"value": -1}),
    (Explicit(values=(1, -1)), CORRUPTION | {"values": (-1, 1)}),
    (Randomise(probability=0.5), {"probability": 0.25, "seed": 1}),
    (Flip(count=3), {"count": 4, "seed": 1}),
]


def test_no_kind_is_forgotten_here() -> None:
    members = {member for union in (Dataset, Labelling, Corruption) for member in get_args(get_args(union)[0])}
    assert {type(specification) for specification, _ in OTHER_VALUES} == members


@pytest.mark.parametrize(("specification", "other"), OTHER_VALUES, ids=lambda x: type(x).__name__)
def test_every_field_is_in_the_content_hash(specification: Specification, other: dict[str, object]) -> None:
    assert set(other) == set(type(specification).model_fields) - {"kind"}
    fields = dict(specification)
    changed = {name: value for name, value in other.items() if value != fields[name]}
    assert set(other) - set(changed) <= {"encoding"}  # which the Boolean cube without its zero prescribes
    hashes = {type(specification)(**fields | {name: value}).content_hash for name, value in changed.items()}
    assert len(hashes | {specification.content_hash}) == 1 + len(changed)


@pytest.mark.parametrize("specification", [pair[0] for pair in OTHER_VALUES], ids=lambda x: type(x).__name__)
def test_the_same_content_has_the_same_hash_however_it_was_written(specification: Specification) -> None:
    kind = type(specification)
    assert kind(**dict(specification)) == specification
    assert kind(**dict(specification)).content_hash == specification.content_hash
    parsed = kind.model_validate_json(specification.model_dump_json())
    assert (parsed, parsed.content_hash) == (specification, specification.content_hash)
    assert hash(parsed) == hash(specification)


def test_the_encoding_and_the_order_of_classes() -> None:
    assert Boolean(encoding="bits").content_hash != Boolean().content_hash
    assert Cifar10(classes=(1, 3)) == Cifar10(classes=(3, 1))
    assert Cifar10(classes=(1, 3)).content_hash == Cifar10(classes=[3, 1]).content_hash


def test_inline_inputs_are_the_same_as_lists_tuples_arrays_integers_and_floats() -> None:
    whole = Inline(x=((1.0, 0.0), (3.0, -4.0)))
    for x in ([[1, 0], [3, -4]], np.array([[1, 0], [3, -4]], dtype=np.int8), np.array([[1, -0.0], [3, -4]])):
        assert Inline(x=x) == whole
        assert Inline(x=x).content_hash == whole.content_hash
    assert Inline(x=np.zeros((2, 3, 3, 1))).content_hash != Inline(x=np.zeros((2, 3, 3))).content_hash


def test_content_hashes_are_the_same_everywhere_and_always() -> None:
    assert Boolean().content_hash == "a0c8acbdf46bdc2d519db4ea5f9a0bf95ad457dca1dad8245d5be46d6035f28b"
    assert Cifar10(classes=(3, 1)).content_hash == "c497f0c4dc1dd6ce6e93909583e1216e5e7ae745fa71767aa7a3db71079b2b5b"


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: Cifar10(classes=(3, 10)), ["classes", "10", "less than or equal to 9"]),
        (lambda: Cifar10(classes=(3, 3)), ["classes", "each class once"]),
        (lambda: Cifar10(classes=()), ["classes", "at least 1"]),
        (lambda: Boolean(bits=0), ["bits", "0", "greater than or equal to 1"]),
        (lambda: Boolean(bits=21), ["bits", "21", "less than or equal to 20"]),
        (lambda: Boolean(leave_out_zero=True), ["leave_out_zero", "encoding='bits'"]),
        (lambda: Boolean(preprocessing="unit-interval"), ["preprocessing", "'unit-interval'", "'unit-norm'"]),
        (lambda: Inline(x=[[1, 2], [3]]), ["x", "same shape"]),
        (lambda: Inline(x=[[1, 2], [3, np.nan]]), ["x", "finite"]),
        (lambda: Inline(x=[[1, 2], [3, np.inf]]), ["x", "finite"]),
        (lambda: Inline(x=[["1", "2"]]), ["x", "real numbers"]),
        (lambda: Inline(x=[[1j, 2]]), ["x", "real numbers"]),
        (lambda: Inline(x=[[10**400, 2]]), ["x", "real numbers"]),
        (lambda: Inline(x=[[None]]), ["x", "real numbers"]),
        (lambda: Inline(x=[]), ["x", "at least one input"]),
        (lambda: Inline(x=[[]]), ["x", "at least one input"]),
        (lambda: Inline(x=[1.0, 2.0]), ["x", "a row of numbers"]),
        (lambda: Inline(x="text"), ["x", "real numbers"]),
        (lambda: Inline(x=np.zeros((1, 1, 1, 1, 1))), ["x", "channels"]),
        (lambda: Inline(x=np.full((200, 200), np.nan)), ["x", "finite"]),
        (lambda: Inline(x=[[1, 2]], classes=(1, 2)), ["classes", "each of the 1 inputs", "there are 2"]),
        (lambda: Inline(x=[[1, 2]], classes=(2**40,)), ["classes", "2147483648"]),
        (lambda: TwoClasses(positive=1), ["negative", "required"]),
    ],
)
def test_what_cannot_be_used_is_named_in_one_short_line(make, parts: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        make()
    assert [part for part in parts if part not in str(caught.value)] == []
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_every_data_set_and_labelling_has_a_json_schema() -> None:
    for union in (Dataset, Labelling):
        schema = TypeAdapter(union).json_schema()
        assert set(schema["discriminator"]["mapping"]) == {
            member.model_fields["kind"].default for member in get_args(get_args(union)[0])
        }
