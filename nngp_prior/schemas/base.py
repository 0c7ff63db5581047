"""What all specifications share: frozen, strict, and identified by a hash of their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    WrapValidator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails

from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.lists import ENOUGH
from nngp_prior.schemas.pieces import pieces
from nngp_prior.schemas.text import short

_LONGEST = 200  # characters of a field's value in a repr
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def _number(value: Any, handler: Callable[[Any], Any]) -> Any:
    """Neither true nor "5": they are no numbers of JSON, and Pydantic takes them for some. There is one zero."""
    number = handler(value)
    if isinstance(value, bool | str):
        raise ValueError(f"Give a number, not {'a truth value' if isinstance(value, bool) else 'text'}")
    return number or type(number)(0)


PLAIN = WrapValidator(_number)  # of every number; behind its bounds, which the schema says only there


def _kind_is_said(value: Any, handler: Callable[[Any], Any]) -> Any:
    """A kind is asked for where there is one alone, too: there may be others one day."""
    if isinstance(value, Mapping) and "kind" not in value:
        missing = InitErrorDetails(type="missing", loc=("kind",), input=value)
        raise ValidationError.from_exception_data("kind", [missing])
    return handler(value)


KIND_IS_SAID = WrapValidator(_kind_is_said)

# Bounds that several fields share, far beyond sense: what lies below them is priced, and refused if it does not fit.
MOST = 10**9  # of what is counted: inputs, examples
Count = Annotated[int, Field(ge=1, le=MOST), PLAIN]
Seed = Annotated[int, Field(ge=0, lt=2**63), PLAIN]
NotNegative = Annotated[float, Field(ge=0, le=1e100), PLAIN]  # in units of what the user brings along, such as K

_NO_OBJECT = ("model_attributes_type", "model_type", "dict_type", "union_tag_not_found")
_PATTERNS = {"^[0-9a-f]{64}$": "Give 64 hexadecimal digits, 0-9 and a-f."}


def explain(error: ValidationError, model: type[BaseModel] | None = None) -> InvalidInput:
    """Turn pydantic's report into one error that names the field, the value and the remedy.

    Args:
        error: what pydantic raised.
        model: the class that was asked for; its fields are listed when an unknown one was given.

    Returns:
        an error for the first problem found.
    """
    return explain_one(error.errors()[0], model)


def explain_one(problem: Mapping[str, Any], model: type[BaseModel] | None = None) -> InvalidInput:
    """As :func:`explain`, of one of the problems that pydantic found.

    Args:
        problem: as ``ValidationError.errors()`` lists it.
        model: the class that was asked for.

    Returns:
        an error for it.
    """
    field = ".".join(str(part) for part in problem["loc"]) or "specification"
    if problem["type"] == "union_tag_invalid":
        context = problem.get("ctx", {})
        kind = ".".join(str(part) for part in (*problem["loc"], context["discriminator"].strip("'")))
        return InvalidInput(kind, f"got {_short(context['tag'])}", f"Choose one of {context['expected_tags']}.")
    if problem["type"] == "union_tag_not_found" and isinstance(problem["input"], Mapping):
        kind = ".".join(str(part) for part in (*problem["loc"], problem["ctx"]["discriminator"].strip("'")))
        return InvalidInput(kind, f"is missing (got {_short(problem['input'])})", "Say which kind it is.")
    if problem["type"] in _NO_OBJECT:
        return InvalidInput(field, f"got {_short(problem['input'])}", "Give an object with named fields.")
    if problem["type"] == "string_pattern_mismatch":
        pattern = problem["ctx"]["pattern"]
        remedy = _PATTERNS.get(pattern, f"Give what matches {pattern}.")
        return InvalidInput(field, f"got {_short(problem['input'])}", remedy)
    if problem["type"] == "extra_forbidden":
        whole = model if len(problem["loc"]) == 1 else None  # the fields of a part are not known here
        near = get_close_matches(field, whole.model_fields, n=1) if whole else []
        meant = f"Did you mean {near[0]}? " if near else ""
        known = f"{meant}It has: {', '.join(whole.model_fields)}" if whole else "Leave it out"
        name = whole.__name__ if whole else "this specification"
        return InvalidInput(field, f"{name} has no such field (got {_short(problem['input'])})", f"{known}.")
    if problem["type"] == "json_invalid":
        place, reason = problem["loc"][-1], problem.get("ctx", {}).get("error", "")
        return InvalidInput("body", f"invalid JSON at character {place} ({reason})", "Correct the JSON.")
    if problem["type"] == "missing":
        return InvalidInput(field, "is required", "Give it a value.")
    message = problem["msg"].removeprefix("Value error, ")
    return InvalidInput(field, f"got {_short(problem['input'])}", f"{message}.")


def message_on_error(remedy: str) -> WrapValidator:
    """What is said of values of any other kind than a field's: of a union Pydantic tells what each member is not.

    Args:
        remedy: what to pass, without a full stop.

    Returns:
        for the field's annotation.
    """

    def validate(value: Any, handler: Callable[[Any], Any]) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(remedy) from None

    return WrapValidator(validate)


@dataclass(frozen=True, eq=False)
class Said:
    """Keywords of JSON Schema for what a validator refuses; part of a field's annotation.

    Attributes:
        keywords: added to those that Pydantic finds.
    """

    keywords: Mapping[str, Any]

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(core_schema), **self.keywords}


@dataclass(frozen=True)
class OrNamed:
    """For JSON Schema: a name in place of a specification that has no other options.

    Attributes:
        names: of all kinds.
    """

    names: tuple[str, ...]

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [handler(core_schema), {"type": "string", "enum": list(self.names)}]}


def _short(value: object) -> str:
    return short(value, 100)


class Specification(BaseModel):
    """A frozen description of one thing, equal to another exactly if their content hashes are equal."""

    __slots__ = ("_known_hash",)  # neither compared nor copied, as fields and private attributes are

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, *unnamed: Any, **fields: Any) -> None:
        if unnamed:
            raise _without_names(type(self), unnamed[0])
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise explain(error, type(self)) from None

    # Tells pydantic that nested specifications need not go through __init__, so that their errors keep their place.
    __init__.__pydantic_base_init__ = True  # pyright: ignore[reportFunctionMemberAccess]

    @model_validator(mode="before")
    @classmethod
    def _few_unknown(cls, fields: Any) -> Any:
        """Leaves some of very many unknown fields out: an error for each costs a kilobyte."""
        if not isinstance(fields, dict) or len(fields) <= len(cls.model_fields) + ENOUGH:
            return fields
        unknown = islice((name for name in fields if name not in cls.model_fields), ENOUGH)
        known = (name for name in cls.model_fields if name in fields)
        return {name: fields[name] for name in (*known, *unknown)}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """As Pydantic's; a specification that is one of several kinds has to say which."""
        schema = handler(core_schema)
        whole = handler.resolve_ref_schema(schema)
        if "kind" in whole.get("properties", {}):
            whole["required"] = sorted({"kind", *whole.get("required", ())})
        return schema

    def __repr__(self) -> str:
        fields = ((name, getattr(self, name)) for name in type(self).model_fields)
        return f"{type(self).__name__}({', '.join(f'{name}={short(value, _LONGEST)}' for name, value in fields)})"

    @property
    def content_hash(self) -> str:
        """SHA-256, in hexadecimal, of the content as canonical JSON."""
        known = getattr(self, "_known_hash", None)
        if known is None:
            found = hashlib.sha256()
            for piece in pieces(self.as_json, _CANONICAL):
                found.update(piece.encode())
            known = found.hexdigest()
            object.__setattr__(self, "_known_hash", known)
        return known

    @property
    def as_json(self) -> dict[str, Any]:
        """As JSON has it; the same as ``model_dump(mode="json")``, which lets no other thread run meanwhile."""
        parted = {
            name: value
            for name in type(self).model_fields
            if isinstance(value := getattr(self, name), tuple) and value and isinstance(value[0], Specification)
        }
        whole = self.model_dump(mode="json", exclude=set(parted))
        return {
            name: [part.model_dump(mode="json") for part in parted[name]] if name in parted else whole[name]
            for name in type(self).model_fields
        }

    @property
    def non_default(self) -> dict[str, Any]:
        """As JSON has it, without what is as by default: all that a service need be told, an older one too.

        What has a kind keeps it.
        """
        whole = self.model_dump(mode="json")
        fields = type(self).model_fields.items()
        return {
            name: _non_default(getattr(self, name), whole[name])
            for name, field in fields
            if name == "kind"
            or field.is_required()
            or getattr(self, name) != field.get_default(call_default_factory=True)
        }


def _without_names(model: type[BaseModel], value: Any) -> InvalidInput:
    """The error for a value without its field's name; the example is the first field whose default is of its type."""
    names = dict.fromkeys([*model.__annotations__, *model.model_fields])  # the model's own first, then inherited ones
    defaults = {
        name: model.model_fields[name].default for name in names if name != "kind" and name in model.model_fields
    }
    like = next((name for name, default in defaults.items() if type(default) is type(value)), next(iter(defaults), ""))
    example = f"{model.__name__}({like}={_short(value)})" if like else f"{model.__name__}()"
    known = f" It has: {', '.join(defaults)}." if defaults else ""
    return InvalidInput(model.__name__, f"got {_short(value)} without a name", f"Name the field: {example}.{known}")


def _non_default(value: Any, whole: Any) -> Any:
    if isinstance(value, Specification):
        return value.non_default
    if isinstance(value, tuple) and any(isinstance(part, Specification) for part in value):
        return [_non_default(part, plain) for part, plain in zip(value, whole, strict=True)]
    return whole
