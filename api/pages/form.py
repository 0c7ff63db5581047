"""Form for a request, made from its specification: fields with defaults, and requests from what was entered."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel

from api.pages.multipart import Form
from api.unions import members
from api.work import WORK
from nngp_prior.schemas.base import Specification
from nngp_prior.schemas.requests import ExperimentRequest, SelectionRequest, SharpnessRequest

_WITHOUT = (ExperimentRequest.work, SelectionRequest.work, SharpnessRequest.work)
FORMS = tuple(kind for kind in WORK if kind not in _WITHOUT)
"""Kinds of work with a form of their own; requests of all kinds can be entered as JSON."""
REQUEST = "request"  # the field with JSON
_UNIONS = ("dataset", "architecture", "labellings", "estimator")
_SEVERAL = "labellings"
_RANGE = re.compile(r"(-?\d+)\s*\.\.\.?\s*(-?\d+)|(-?\d+)\s*…\s*(-?\d+)")
_MOST = 10_000  # labellings of a range
_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n        .*)*)", re.MULTILINE)


@dataclass(frozen=True)
class Field:
    """Field of the form.

    Attributes:
        name: name in the form, such as ``dataset.digits.n``.
        label: name in the specification.
        help: its description.
        kind: ``number``, ``text``, ``choice``, ``flag``, ``array`` (an upload or its hash), ``list`` or ``json``.
        default: default as text; empty if there is none.
        choices: values of a choice.
        required: True if there is no default.
    """

    name: str
    label: str
    help: str
    kind: str
    default: str
    choices: tuple[Any, ...]
    required: bool


@dataclass(frozen=True)
class Option:
    """Member of a union.

    Attributes:
        kind: kind of the specification.
        about: description in a sentence.
        fields: its fields.
    """

    kind: str
    about: str
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class Group:
    """Part of a request that is one of several specifications.

    Attributes:
        name: name in the request.
        options: specifications to choose from.
        default: kind chosen at first.
        several: True if several may be chosen.
    """

    name: str
    options: tuple[Option, ...]
    default: str
    several: bool


@cache
def groups_of(work: str) -> tuple[Group, ...]:
    """Return the parts of a request that are unions."""
    model = WORK[work].request
    found = []
    for name in _UNIONS:
        if name in model.model_fields:
            info = model.model_fields[name]
            union = info.annotation
            while getattr(union, "__origin__", None) is tuple:
                union = union.__args__[0]  # pyright: ignore[reportOptionalMemberAccess]
            options = tuple(
                Option(kind, _about(each), tuple(_fields(each, f"{name}.{kind}")))
                for each in members(union)
                for kind in [each.model_fields["kind"].default]
            )
            default = options[0].kind if info.is_required() else info.default.kind
            found.append(Group(name, options, default, name == _SEVERAL))
    return tuple(found)


@cache
def fields_of(work: str) -> tuple[Field, ...]:
    """Return the other fields of a request."""
    return tuple(field for field in _fields(WORK[work].request, "") if field.name not in _UNIONS)


def request_of(work: str, form: Form) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the request that was entered.

    Args:
        work: kind of work.
        form: the form as received.

    Returns:
        the request as JSON, not validated; and the prefix of the form's fields by that of the request's, such as
        ``labellings.threshold`` by ``labellings.0``.

    Raises:
        ValueError: if a range is too long.
    """
    values = _texts(form)
    content: dict[str, Any] = {}
    prefixes: dict[str, str] = {}
    for group in groups_of(work):
        options = {option.kind: option for option in group.options}
        chosen = [options[kind] for kind in form.values.get(group.name, ()) if kind in options]
        if group.several:
            parts: list[dict[str, Any]] = []
            for option in chosen:
                for part in _expanded(option, values):
                    prefixes[f"{group.name}.{len(parts)}"] = f"{group.name}.{option.kind}"
                    parts.append(part)
            content[group.name] = parts
        elif chosen:
            prefixes[group.name] = f"{group.name}.{chosen[0].kind}"
            content[group.name] = {"kind": chosen[0].kind, **_entered(chosen[0].fields, values)}
    return content | _entered(fields_of(work), values), prefixes


def values_of(work: str, content: Mapping[str, Any]) -> dict[str, list[str]] | None:
    """Return the texts of a form from a request.

    Args:
        work: kind of work.
        content: the request as JSON.

    Returns:
        values by name; None if the form cannot express the request.
    """
    values: dict[str, list[str]] = {}
    for group in groups_of(work):
        parts = content[group.name] if group.several else [content[group.name]]
        values[group.name] = list(dict.fromkeys(part["kind"] for part in parts))
        for option in group.options:
            own = [part for part in parts if part["kind"] == option.kind]
            for field in option.fields if own else ():
                texts = [_text(part.get(field.label)) for part in own]
                if len(set(texts)) > 1 and (field.kind != "number" or "" in texts):
                    return None
                values[field.name] = [texts[0] if len(set(texts)) == 1 else ", ".join(texts)]
    return values | {field.name: [_text(content.get(field.name))] for field in fields_of(work)}


def place_of(location: str, prefixes: Mapping[str, str], work: str) -> str:
    """Return the name of the field, or of the group, that an error is shown beside.

    Args:
        location: location of the error in the request.
        prefixes: see :func:`request_of`.
        work: kind of work.

    Returns:
        name in the form; empty if there is no such field.
    """
    location = location.removeprefix("body.").partition(" ")[0]
    for start in sorted(prefixes, key=len, reverse=True):
        if location == start or location.startswith(f"{start}."):
            location = prefixes[start] + location[len(start) :]
            break
    groups = groups_of(work)
    known = {field.name for group in groups for option in group.options for field in option.fields}
    known |= {field.name for field in fields_of(work)} | {group.name for group in groups}
    inner = next((f"{own}.{location}" for own in prefixes.values() if f"{own}.{location}" in known), "")
    while location and location not in known:
        location = location.rpartition(".")[0]
    return location or inner  # an error of a specification itself names its field alone


def _texts(form: Form) -> dict[str, str]:
    """Return the last text of each name; that of an uploaded array is its hash."""
    return {name: texts[-1] for name, texts in form.values.items()} | form.uploads


def _expanded(option: Option, values: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield a labelling for each value in the lists of numbers, which are paired."""
    lists = {
        field.label: _numbers(values.get(field.name, ""))
        for field in option.fields
        if field.kind in ("number", "choice")
    }
    longest = max([1, *map(len, lists.values())])
    for i in range(longest):
        own = {label: several[i if len(several) > 1 else 0] for label, several in lists.items() if _reaches(several, i)}
        yield {"kind": option.kind, **_entered(option.fields, values), **own}


def _reaches(several: Sequence[Any], i: int) -> bool:
    return len(several) == 1 or i < len(several)


def _numbers(text: str) -> list[Any]:
    """Return the numbers of a list such as ``1, 2, 5..9``."""
    found: list[Any] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        ends = _RANGE.fullmatch(part)
        if ends is None:
            found.append(_number(part))
        else:
            low, high = (int(end) for end in ends.groups() if end is not None)
            if high - low >= _MOST:
                raise ValueError(f"{part} are more than {_MOST:,} labellings. Send them in parts.")
            found += range(low, high + 1)
    return found


def _entered(fields: Sequence[Field], values: Mapping[str, str]) -> dict[str, Any]:
    """Return what was entered, without empty fields, whose defaults hold."""
    found: dict[str, Any] = {}
    for field in fields:
        text = values.get(field.name, "")
        if field.kind == "flag":
            found[field.label] = bool(text)
        elif text:
            found[field.label] = _value(field, text)
    return found


def _value(field: Field, text: str) -> Any:
    match field.kind:
        case "number":
            return _number(text)
        case "choice":
            return next((choice for choice in field.choices if str(choice) == text), text)
        case "list":
            return [_number(part.strip()) for part in text.split(",") if part.strip()]
        case "json":
            try:
                return json.loads(text)
            except ValueError:
                return text
        case _:
            return text


def _number(text: str) -> Any:
    """Return a number, or the text if it is none."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _text(value: Any) -> str:
    match value:
        case None | False:
            return ""
        case True:
            return "on"
        case str():
            return value
        case list() | tuple() if all(isinstance(part, int | float | str) for part in value):
            return ", ".join(map(str, value))
        case dict() | list() | tuple():
            return json.dumps(value)
        case _:
            return repr(value)


def _fields(model: type[BaseModel], prefix: str) -> Iterator[Field]:
    schema = model.model_json_schema()
    about = _attributes(model)
    for name in dict.fromkeys([*model.__annotations__, *model.model_fields]):  # own fields before inherited ones
        info = model.model_fields.get(name)
        if info is None or name == "kind" or (not prefix and name in _UNIONS):
            continue
        required = info.is_required() or name in schema.get("required", ())
        default = None if required else info.get_default(call_default_factory=True)
        default = default.as_json if isinstance(default, Specification) else default
        if isinstance(default, tuple):
            default = [part.as_json if isinstance(part, Specification) else part for part in default]
        kind, choices = _kind(schema["properties"][name])
        label = f"{prefix}.{name}" if prefix else name
        yield Field(label, name, about.get(name, ""), kind, _text(default), choices, required)


def _kind(schema: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """Return the kind of a field and its choices."""
    parts = [part for part in schema.get("anyOf", [schema]) if part.get("type") != "null"]
    part = parts[0] if len(parts) == 1 else {}
    if "enum" in part:
        return "choice", tuple(part["enum"])
    if part.get("pattern", "").startswith("^[0-9a-f]{64}"):
        return "array", ()
    match part.get("type"):
        case "boolean":
            return "flag", ()
        case "integer" | "number":
            return "number", ()
        case "string":
            return "text", ()
        case "array" if part.get("items", {}).get("type") in ("integer", "number", "string"):
            return "list", ()
        case _:
            return "json", ()


def _about(model: type[BaseModel]) -> str:
    return " ".join((inspect.getdoc(model) or "").partition("\n\n")[0].split()).replace("``", "")


def _attributes(model: type[BaseModel]) -> dict[str, str]:
    """Return the descriptions of fields, from the docstrings of a class and its bases."""
    found: dict[str, str] = {}
    for each in reversed(model.__mro__):
        text = inspect.cleandoc(each.__doc__ or "").partition("Attributes:\n")[2]
        found |= {name: " ".join(about.split()).replace("``", "") for name, about in _ATTRIBUTE.findall(text)}
    return found
