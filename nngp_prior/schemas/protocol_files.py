"""Protocol files: TOML, with values that can be overridden, and errors that name the line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nngp_prior.errors import DataUnavailable, InvalidInput
from nngp_prior.schemas.base import explain_one
from nngp_prior.schemas.frequencies import ANY_PROTOCOL, FrequencyProtocol
from nngp_prior.schemas.protocols import Protocol
from nngp_prior.schemas.text import short

_TABLE = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")

KeyPath = tuple[str | int, ...]


def built_in() -> dict[str, Protocol | FrequencyProtocol]:
    """Return the protocols of the package by name."""
    return {name: read_protocol(name) for name in names()}


def names() -> list[str]:
    """Return the names of the package's protocols."""
    return sorted(each.name.removesuffix(".toml") for each in _folder().iterdir() if each.name.endswith(".toml"))


def named(name: str) -> dict[str, Any]:
    """Read a protocol of the package, never another file.

    Args:
        name: name of the protocol.

    Returns:
        its fields.

    Raises:
        InvalidInput: if there is no such protocol.
    """
    return tomllib.loads(_named(name))


def read_protocol(source: str | Path, overrides: Sequence[str] = ()) -> Protocol | FrequencyProtocol:
    """Read a protocol.

    Args:
        source: path of a TOML file, or the name of a protocol of the package.
        overrides: changes such as ``axes.attack=0,100,200``, ``seeds=3`` or ``training.optimizer.kind="adam"``: the
            path of a field and a TOML value; a list needs no brackets and text no quotes.

    Returns:
        the protocol.

    Raises:
        InvalidInput: if there is no such protocol, or a field is invalid; the error names the line.
        DataUnavailable: if the file cannot be read.
    """
    name, text = _text(source)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(name, f"is not TOML: {error}", "Correct that line.") from None
    lines = _lines(text)
    for override in overrides:
        path, value = _override(override)
        _put(document, path, value, override)
        lines = {known: line for known, line in lines.items() if known[: len(path)] != path}
    try:
        return ANY_PROTOCOL.validate_python(document)
    except ValidationError as error:
        explained = _with_line(error, document, lines, name)
        raise explained from None


def _folder() -> Any:
    return resources.files("nngp_prior") / "experiments" / "protocols"


def _text(source: str | Path) -> tuple[str, str]:
    """Return the name and the text of a protocol file."""
    path = Path(source)
    if path.suffix == ".toml":
        try:
            return path.name, path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataUnavailable(f"{path}: cannot be read ({error}).") from None
    return f"{source}.toml", _named(str(source), ", or name a .toml file")


def _named(name: str, otherwise: str = "") -> str:
    known = names()
    if name not in known:
        near = get_close_matches(name, known, n=1)
        remedy = f"Did you mean {near[0]}? " if near else ""
        raise InvalidInput("protocol", f"got {short(name)}", f"{remedy}Choose one of {', '.join(known)}{otherwise}.")
    return (_folder() / f"{name}.toml").read_text(encoding="utf-8")


def _lines(text: str) -> dict[KeyPath, int]:
    """Return the line of each key and table, for messages; lines within long strings may add some that do not exist."""
    found: dict[KeyPath, int] = {}
    table: KeyPath = ()
    counts: dict[KeyPath, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if match := _TABLE.match(line):
            table = _parts(match[2])
            if match[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            found.setdefault(table, number)
        elif match := _KEY.match(line):
            found.setdefault((*table, *_parts(match[1])), number)
    return found


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _override(text: str) -> tuple[tuple[str, ...], Any]:
    field, equals, value = text.partition("=")
    path = _parts(field)
    if not equals or not path:
        raise InvalidInput("overrides", f"got {text!r}", "Write FIELD=VALUE, such as axes.attack=0,100,200.")
    parts = [value] if value.lstrip().startswith(("[", "{", '"', "'")) else value.split(",")
    values = [_value(part.strip()) for part in parts]
    listed = len(values) > 1 or (path[0] == "axes" and len(path) > 1 and not isinstance(values[0], list))
    return path, values if listed else values[0]


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _put(document: dict[str, Any], path: tuple[str, ...], value: Any, override: str) -> None:
    inner = document
    for part in path[:-1]:
        inner = inner.setdefault(part, {})
        if not isinstance(inner, dict):
            raise InvalidInput(
                "overrides", f"got {override!r}, and {part} has no fields", "Name a field of the protocol."
            )
    inner[path[-1]] = value


def _with_line(error: ValidationError, document: Any, lines: dict[KeyPath, int], name: str) -> InvalidInput:
    """Return the error with the line of the field, or of the nearest table around it."""
    problem = error.errors(include_url=False)[0]
    # The location begins with the kind of the protocol, unless that is what is wrong.
    location = problem["loc"][1:] or (() if problem["loc"] else ("kind",))
    explained = explain_one({**problem, "loc": problem["loc"][1:]})
    path: list[str | int] = []
    inner = document
    for part in location:
        # Locations also contain the kinds of specifications, which are no keys.
        if (isinstance(inner, dict) and part in inner) or (isinstance(inner, list) and isinstance(part, int)):
            path, inner = [*path, part], inner[part]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ends = (tuple(path[:end]) for end in range(len(path), 0, -1))
    line = next((lines[end] for end in ends if end in lines), None)
    where = name if line is None else f"{name}, line {line}"
    return InvalidInput(f"{where}: {explained.field}", explained.problem, explained.remedy)
