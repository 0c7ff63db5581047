"""Base class of specifications: frozen, strict, and identified by a hash of their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from typing import Annotated, Any, get_args, get_type_hints

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    WrapValidator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, to_jsonable_python

from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.lists import ENOUGH
from nngp_prior.schemas.pieces import pieces
from nngp_prior.schemas.seeds import plain_seed
from nngp_prior.schemas.text import short

_LONGEST = 200  # maximal number of characters of a field's value in a repr
_JSON_SCALARS = {int, float, str, bool, type(None)}
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def _number(value: Any, handler: Callable[[Any], Any]) -> Any:
    """Refuse booleans and numeric strings, which Pydantic would convert but which are not JSON numbers; map -0 to 0."""
    number = handler(value)
    if isinstance(value, bool | str):
        raise ValueError(f"Give a number, not {'a truth value' if isinstance(value, bool) else 'text'}")
    return number or type(number)(0)


PLAIN = WrapValidator(_number)  # for all numbers; after their bounds, else these are not in the schema


def _kind_is_said(value: Any, handler: Callable[[Any], Any]) -> Any:
    """Require ``kind`` even if there is one kind only, since others may be added."""
    if isinstance(value, Mapping) and "kind" not in value:
        missing = InitErrorDetails(type="missing", loc=("kind",), input=value)
        raise ValidationError.from_exception_data("kind", [missing])
    return handler(value)


KIND_IS_SAID = WrapValidator(_kind_is_said)

# Shared bounds, far above useful values: requests below them are checked by their cost instead.
MOST = 10**9  # for counts of inputs and examples
Count = Annotated[int, Field(ge=1, le=MOST), PLAIN]
Seed = Annotated[int, Field(ge=0, lt=2**63), PLAIN, BeforeValidator(plain_seed)]
NotNegative = Annotated[float, Field(ge=0, le=1e100), PLAIN]  # in units of the user's data, such as those of K

_NO_OBJECT = ("model_attributes_type", "model_type", "dict_type", "union_tag_not_found")
_PATTERNS = {"^[0-9a-f]{64}$": "Give 64 hexadecimal digits, 0-9 and a-f."}


def explain(error: ValidationError, model: type[BaseModel] | None = None) -> InvalidInput:
    """Convert pydantic's report into one error that names the field, the value and the remedy.

    Args:
        error: error raised by pydantic.
        model: class that was validated; its fields are listed if an unknown field was given.

    Returns:
        error for the first problem.
    """
    return explain_one(error.errors()[0], model)


def explain_one(problem: Mapping[str, Any], model: type[BaseModel] | None = None) -> InvalidInput:
    """Convert one of pydantic's problems to an error; see :func:`explain`.

    Args:
        problem: an entry of ``ValidationError.errors()``.
        model: class that was validated.

    Returns:
        error for the problem.
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
        whole = model if len(problem["loc"]) == 1 else None  # the fields of nested specifications are unknown here
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
    message = problem["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list")
    return InvalidInput(field, f"got {_short(problem['input'])}", f"{message}.")


def message_on_error(remedy: str) -> WrapValidator:
    """Replace the errors of a field by one message; for a union Pydantic would list an error for each member.

    Args:
        remedy: value to pass, without a full stop.

    Returns:
        validator for the field's annotation.
    """

    def validate(value: Any, handler: Callable[[Any], Any]) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(remedy) from None

    return WrapValidator(validate)


@dataclass(frozen=True, eq=False)
class Said:
    """JSON Schema keywords for a condition checked by a validator; part of a field's annotation.

    Attributes:
        keywords: keywords, added to those that Pydantic generates.
    """

    keywords: Mapping[str, Any]

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(core_schema), **self.keywords}


@dataclass(frozen=True)
class OrNamed:
    """JSON Schema alternative to a specification: the name of its kind, for default options.

    Attributes:
        names: names of all kinds.
    """

    names: tuple[str, ...]

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [handler(core_schema), {"type": "string", "enum": list(self.names)}]}


def _short(value: object) -> str:
    return short(value, 100)


class Specification(BaseModel):
    """A frozen specification; two are equal if and only if their content hashes are equal."""

    __slots__ = ("_known_hash",)  # unlike fields and private attributes, neither compared nor copied

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, *unnamed: Any, **fields: Any) -> None:
        if unnamed:
            raise _without_names(type(self), unnamed[0])
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise explain(error, type(self)) from None

    # Pydantic then does not call __init__ of nested specifications, so that their errors keep their location.
    __init__.__pydantic_base_init__ = True  # pyright: ignore[reportFunctionMemberAccess]

    @model_validator(mode="before")
    @classmethod
    def _few_unknown(cls, fields: Any) -> Any:
        """Drop some of very many unknown fields, since each error takes a kilobyte."""
        if not isinstance(fields, dict) or len(fields) <= len(cls.model_fields) + ENOUGH:
            return fields
        unknown = islice((name for name in fields if name not in cls.model_fields), ENOUGH)
        known = (name for name in cls.model_fields if name in fields)
        return {name: fields[name] for name in (*known, *unknown)}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Pydantic's schema, with ``kind`` required."""
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
        """SHA-256 of the content as canonical JSON, in hexadecimal."""
        known = getattr(self, "_known_hash", None)
        if known is None:
            # Hashed at once: a thread that releases the interpreter's lock for microseconds, piece by piece, starves
            # others.
            known = hashlib.sha256("".join(pieces(self.as_json, _CANONICAL)).encode()).hexdigest()
            object.__setattr__(self, "_known_hash", known)
        return known

    @property
    def as_json(self) -> dict[str, Any]:
        """Return JSON-compatible values, equal to ``model_dump(mode="json")``, but without blocking other threads."""
        return {name: _jsonable(getattr(self, name)) for name in type(self).model_fields}

    @property
    def non_default(self) -> dict[str, Any]:
        """Return JSON-compatible values without defaults, which services, including older ones, do not need.

        ``kind`` is always included.
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


def _jsonable(value: Any) -> Any:
    """JSON-compatible form of a field's value, as Pydantic's; its serializer blocks other threads until it is done."""
    match value:
        case Specification():
            return value.as_json
        case dict():
            return {key: _jsonable(part) for key, part in value.items()}
        case tuple() | list():
            return list(value) if set(map(type, value)) <= _JSON_SCALARS else [_jsonable(part) for part in value]
        case _:
            return to_jsonable_python(value)


def _without_names(model: type[BaseModel], value: Any) -> InvalidInput:
    """Error for a positional argument; its example is the first field of the argument's type."""
    names = dict.fromkeys([*model.__annotations__, *model.model_fields])  # own fields before inherited ones
    defaults = {
        name: model.model_fields[name].default for name in names if name != "kind" and name in model.model_fields
    }
    types = get_type_hints(model)

    def takes(name: str) -> bool:
        default = defaults[name]
        return type(value) in (get_args(types[name]) if default is None else [type(default)])

    like = next((name for name in defaults if takes(name)), next(iter(defaults), ""))
    example = f"{model.__name__}({like}={_short(value)})" if like else f"{model.__name__}()"
    known = f" It has: {', '.join(defaults)}." if defaults else ""
    return InvalidInput(model.__name__, f"got {_short(value)} without a name", f"Name the field: {example}.{known}")


def _non_default(value: Any, whole: Any) -> Any:
    if isinstance(value, Specification):
        return value.non_default
    if isinstance(value, tuple) and any(isinstance(part, Specification) for part in value):
        return [_non_default(part, plain) for part, plain in zip(value, whole, strict=True)]
    return whole
