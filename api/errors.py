"""What goes wrong, as RFC 9457 problem details; one table from exceptions to their status."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from nngp_prior.errors import DataUnavailable, InvalidInput, NngpPriorError, ResourceLimit
from nngp_prior.schemas.base import explain_one

MEDIA_TYPE = "application/problem+json"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_SHOWN = 20  # problems of one request


class StorageFull(ResourceLimit):
    """The disk is full; what was accepted waits."""


# The first class of an exception's ancestors that is here decides.
TABLE: dict[type[Exception], tuple[int, str]] = {
    StorageFull: (507, "storage-full"),
    ResourceLimit: (422, "kernel-too-large"),
    DataUnavailable: (422, "data-unavailable"),
    InvalidInput: (422, "invalid-request"),
    NngpPriorError: (422, "invalid-request"),
}
_CODES = {
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    413: "body-too-large",
    415: "unsupported-media-type",
}
_RETRYABLE = frozenset({408, 429, 500, 503, 507})
_log = structlog.get_logger("api")


class Problem(Exception):
    """An answer that is an error.

    Args:
        status: of HTTP.
        code: what clients tell problems apart by.
        detail: what is wrong, with the value, and what to do.
        errors: which fields are wrong: ``{"location", "message"}`` each.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.errors, self.headers = list(errors), dict(headers or {})

    def document(self) -> dict[str, Any]:
        """The problem as JSON has it, with the id of the request that it is answered to."""
        return {
            "type": f"urn:nngp-prior:problem:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "errors": self.errors,
            "request_id": structlog.contextvars.get_contextvars().get("request_id"),
            "retryable": self.status in _RETRYABLE,
        }

    def response(self) -> Response:
        """The answer."""
        # In ASCII, since what a client sent and a message repeats may be no valid Unicode.
        return Response(json.dumps(self.document()), self.status, self.headers, MEDIA_TYPE)


def internal_error() -> Problem:
    """What is told of an error of our own: nothing of the inside."""
    return Problem(500, "internal-error", "The service failed. Its log says why, beside this request's id.")


def problem_of(error: Exception) -> Problem:
    """The problem that an exception is to a client.

    Args:
        error: what was raised.

    Returns:
        its problem; ``internal-error`` where it is in no table.
    """
    if isinstance(error, Problem):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        error = StorageFull("The disk is full. Make room and try again.")
    for ancestor in type(error).__mro__:
        if ancestor in TABLE:
            status, code = TABLE[ancestor]
            return Problem(status, code, str(error), _fields(error))
    return internal_error()


def install(app: FastAPI) -> None:
    """Have an application answer errors with problems."""
    for kind in (Problem, NngpPriorError, OSError):
        app.add_exception_handler(kind, _known)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ValidationError, _invalid)


def schema() -> dict[int | str, dict[str, Any]]:
    """The answers of all routes that are errors, for OpenAPI."""
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
        "4XX": {"description": "What was sent cannot be used.", "content": content},
        "5XX": {"description": "The service cannot do it now.", "content": content},
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
        case 400:  # a body that is no JSON, too deep or no text
            problem = Problem(422, "invalid-request", "The body cannot be read as JSON. Mend it.")
        case status:
            code = _CODES.get(status, "invalid-request")
            problem = Problem(status, code, str(error.detail), headers=error.headers)
    return problem.response()


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError | ValidationError)
    body = error.body if isinstance(error, RequestValidationError) else None
    errors = []
    for found in error.errors()[:_SHOWN]:
        explained = explain_one({**found, "loc": _place(found["loc"], body)})
        errors.append({"location": explained.field, "message": f"{explained.problem}. {explained.remedy}"})
    detail = f"{errors[0]['location']}: {errors[0]['message']}"
    return Problem(422, "invalid-request", detail, errors).response()


def _place(location: Sequence[Any], body: Any) -> tuple[Any, ...]:
    """Where in the body as it was sent a problem is: without the kinds that pydantic puts between."""
    place: list[Any] = []
    here: Any = {"body": body}
    for part in location:
        if isinstance(here, dict) and part not in here and here.get("kind") == part:
            continue
        place.append(part)
        try:
            here = here[part]
        except (LookupError, TypeError):
            here = None
    return tuple(place)


def _fields(error: Exception) -> list[dict[str, str]]:
    if not isinstance(error, InvalidInput):
        return []
    return [{"location": error.field, "message": f"{error.problem}. {error.remedy}"}]


def _allowed(request: Request) -> list[str]:
    """The methods of a path, those of all its routes."""
    routes = request.app.router.routes
    return [
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]
