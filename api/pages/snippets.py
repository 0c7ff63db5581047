"""A job's request as JSON, as Python and as a command."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

import nngp_prior
import nngp_prior.data
from api.work import WORK
from nngp_prior.schemas.base import Specification
from nngp_prior.schemas.requests import (
    BoundRequest,
    EstimateRequest,
    ExperimentRequest,
    KernelRequest,
    PosteriorRequest,
    SampleRequest,
    SelectionRequest,
)

_LINE = 100  # characters
_CALLS = {
    EstimateRequest.work: ("estimate", ("architecture", "dataset", "labellings")),
    BoundRequest.work: ("bound", ("architecture", "dataset", "labellings")),
    PosteriorRequest.work: ("posterior", ("architecture", "dataset", "labellings")),
    SelectionRequest.work: ("select", ("family", "dataset", "labelling")),
    SampleRequest.work: ("sample", ("architecture", "dataset", "networks")),
}


def as_json(kind: str, content: Mapping[str, Any]) -> str:
    """Return a request as JSON without defaults."""
    return json.dumps(_validated(kind, content).non_default, indent=2, ensure_ascii=False)


def as_curl(kind: str, content: Mapping[str, Any], url: str) -> str:
    """Return a command for a shell.

    Args:
        kind: kind of work.
        content: request as JSON.
        url: URL of the service.

    Returns:
        a command that posts the request, with the token from the variable ``TOKEN``.
    """
    body = json.dumps(_validated(kind, content).non_default, ensure_ascii=False)
    headers = '-H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json"'
    return f"curl -fsS {headers} {shlex.quote(f'{url}/v1/{kind}')} \\\n  -d {shlex.quote(body)}"


def as_python(kind: str, content: Mapping[str, Any]) -> str:
    """Return a Python program that submits the request and waits for its results.

    Args:
        kind: kind of work.
        content: request as JSON.

    Returns:
        its source; the job that it submits has the same id.
    """
    request = _validated(kind, content)
    writer = _Writer()
    if kind in _CALLS:
        method, positional = _CALLS[kind]
        arguments = [writer.expression(getattr(request, name)) for name in positional]
        arguments += [f"{name}={text}" for name, text in writer.options(request, positional)]
        call = _call(f"client.{method}", arguments, 0)
    elif isinstance(request, ExperimentRequest):
        call = _call("client.experiment", [writer.expression(request.protocol.non_default)], 0)
    else:
        call = _call("client.submit", [writer.expression(request)], 0)
    last = "job.wait()" if isinstance(request, KernelRequest) else "results = job.result(progress=True)"
    return (
        f"{writer.imports()}\n\nclient = Client()  # NNGP_URL and NNGP_TOKEN, or url=…, token=…\njob = {call}\n{last}\n"
    )


def _validated(kind: str, content: Mapping[str, Any]) -> Specification:
    return WORK[kind].request.model_validate(content)


class _Writer:
    """Writer of expressions, which collects the classes to import."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {"nngp_prior": {"Client"}}

    def imports(self) -> str:
        """Return the lines of imports."""
        return "\n".join(
            f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(self._names.items())
        )

    def options(self, value: Specification, without: tuple[str, ...]) -> list[tuple[str, str]]:
        """Return the arguments of a client's method that are not positional, by name; it calls an estimator ``method``.

        Posteriors and selections have one estimator, whose fields are arguments.
        """
        found: list[tuple[str, str]] = []
        for name in value.non_default:
            part = getattr(value, name)
            if name == "estimator" and isinstance(value, PosteriorRequest | SelectionRequest):
                found += [(each, repr(getattr(part, each))) for each in part.non_default if each != "kind"]
            elif name not in without:
                found.append(("method" if name == "estimator" else name, self.expression(part)))
        return found

    def expression(self, value: Any, indent: int = 4) -> str:
        """Return Python source of a value.

        Args:
            value: specification, or JSON-compatible value.
            indent: indentation of its first line.

        Returns:
            its source.
        """
        match value:
            case Specification():
                self._names.setdefault(_home(type(value)), set()).add(type(value).__name__)
                fields = [name for name in value.non_default if name != "kind"]
                return _call(
                    type(value).__name__,
                    [f"{name}={self.expression(getattr(value, name), indent + 4)}" for name in fields],
                    indent,
                )
            case tuple() | list() if not any(isinstance(part, Specification | tuple | list | dict) for part in value):
                return repr(list(value))
            case tuple() | list():
                return _call("", [self.expression(part, indent + 4) for part in value], indent, "[]")
            case dict():
                parts = [f"{key!r}: {self.expression(part, indent + 4)}" for key, part in value.items()]
                return _call("", parts, indent, "{}")
            case _:
                return repr(value)


def _home(model: type[Specification]) -> str:
    """Return the module that users import a class from."""
    if model.__name__ in nngp_prior.__all__:
        return "nngp_prior"
    return "nngp_prior.data" if model.__name__ in nngp_prior.data.__all__ else model.__module__


def _call(name: str, arguments: list[str], indent: int, brackets: str = "()") -> str:
    """Return a call or a list, on one line if it fits; ``indent`` is that of its first line."""
    opening, closing = brackets
    line = ", ".join(arguments)
    if "\n" not in line and len(line) + len(name) + indent < _LINE:
        return f"{name}{opening}{line}{closing}"
    margin = " " * indent
    return f"{name}{opening}\n" + "".join(f"{margin}    {each},\n" for each in arguments) + f"{margin}{closing}"
