"""Exception handlers of the application: errors as RFC 9457 problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from api.problems import MEDIA_TYPE, Problem, problem_of
from nngp_prior.errors import NngpPriorError
from nngp_prior.schemas.base import explain_one

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_SHOWN = 20  # problems listed per request
_LONGEST = 100  # characters of a field's name


_CODES = {
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    413: "body-too-large",
    415: "unsupported-media-type",
}
_log = structlog.get_logger("api")


def install(app: FastAPI) -> None:
    """Install the exception handlers."""
    for kind in (Problem, NngpPriorError, OSError, OperationalError):
        app.add_exception_handler(kind, _known)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ValidationError, _invalid)


def schema() -> dict[int | str, dict[str, Any]]:
    """Return the error responses common to all routes, for OpenAPI."""
    text, location = {"type": "string"}, {"location": {"type": "string"}, "message": {"type": "string"}}
    properties = {
        "type": text,
        "title": text,
        "status": {"type": "integer"},
        "detail": text,
        "code": text,
        "errors": {"type": "array", "items": {"type": "object", "properties": location}},
        "request_id": {"type": ["string", "null"]},
        "retryable": {"type": "boolean"},
    }
    content = {MEDIA_TYPE: {"schema": {"type": "object", "properties": properties, "required": list(properties)}}}
    return {
        "4XX": {"description": "The request is invalid.", "content": content},
        "5XX": {"description": "The service cannot execute the request now.", "content": content},
    }


async def _known(_: Request, error: Exception) -> Response:
    problem = problem_of(error)
    if problem.status == 500:
        _log.error("failed", exc_info=error)
    return problem.response()


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    match error.status_code:
        case 404:
            problem = Problem(404, "not-found", f"There is nothing at {path}. Look at /openapi.json.")
        case 405:
            allowed = ", ".join(_allowed(request))
            detail = f"{path} has no {request.method}. Use {allowed}."
            problem = Problem(405, "method-not-allowed", detail, headers={"Allow": allowed})
        case 400:  # a body that is not JSON, nested too deeply or not text
            problem = Problem(422, "invalid-request", "The body cannot be read as JSON. Correct it.")
        case status:
            code = _CODES.get(status, "invalid-request")
            problem = Problem(status, code, str(error.detail), headers=error.headers)
    return problem.response()


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError | ValidationError)
    body = error.body if isinstance(error, RequestValidationError) else None
    return invalid(error.errors(), body).response()


def invalid(problems: Sequence[Any], body: Any = None) -> Problem:
    """Return the problem for a request that fails validation.

    Args:
        problems: errors from Pydantic.
        body: body of the request.

    Returns:
        the problem, with the first errors; it keeps no reference to the body.
    """
    errors = []
    for found in _causes(problems)[:_SHOWN]:
        explained = explain_one({**found, "loc": _place(found["loc"], body)})
        errors.append({"location": explained.field, "message": f"{explained.problem}. {explained.remedy}"})
    return refused(errors)


def refused(errors: Sequence[Mapping[str, str]], code: str = "invalid-request") -> Problem:
    """Return the problem for a request with wrong fields.

    Args:
        errors: at least one field (``location``) with its ``message``; the first ones are kept.
        code: problem code.

    Returns:
        the problem, whose detail is the first error.
    """
    detail = f"{errors[0]['location']}: {errors[0]['message']}"
    return Problem(422, code, detail, [dict(error) for error in errors[:_SHOWN]])


def _causes(problems: Sequence[Any]) -> list[Any]:
    """Drop errors caused by other errors: Pydantic reports a list as too short if its items are invalid."""
    places = [tuple(problem["loc"]) for problem in problems]
    return [
        problem
        for problem, place in zip(problems, places, strict=True)
        if problem["type"] != "too_short" or not any(len(p) > len(place) and p[: len(place)] == place for p in places)
    ]


def _place(location: Sequence[Any], body: Any) -> tuple[Any, ...]:
    """Return the location of an error in the body as sent, without the tags that Pydantic inserts for unions."""
    place: list[Any] = []
    here: Any = {"body": body}
    for part in location:
        if isinstance(here, dict) and part not in here and here.get("kind") == part:
            continue
        place.append(_name(part) if isinstance(part, str) else part)
        try:
            here = here[part]
        except (LookupError, TypeError):
            here = None
    return tuple(place)


def _name(field: str) -> str:
    return field if len(field) <= _LONGEST else f"{field[:_LONGEST]}…"


def _allowed(request: Request) -> list[str]:
    """Return the methods of all routes of a path; HEAD wherever there is GET."""
    routes = request.app.router.routes
    taken = {
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    }
    return [method for method in _METHODS if method in taken or (method == "HEAD" and "GET" in taken)]
