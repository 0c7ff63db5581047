"""Errors as RFC 9457 problem details; one table from exceptions to status codes."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from starlette.responses import Response

from api import descriptors
from nngp_prior.errors import DataUnavailable, InvalidInput, InvalidLabels, NngpPriorError, ResourceLimit

MEDIA_TYPE = "application/problem+json"


class StorageFull(ResourceLimit):
    """Raised if the disk is full; accepted jobs wait."""


class DatabaseUnavailable(NngpPriorError):
    """Raised if the database cannot be reached now; accepted jobs wait."""


class DamagedStore(NngpPriorError):
    """Raised if stored data are damaged."""


# The first class in an exception's MRO that is in the table decides.
TABLE: dict[type[Exception], tuple[int, str]] = {
    StorageFull: (507, "storage-full"),
    DamagedStore: (500, "damaged-store"),
    DatabaseUnavailable: (503, "database-unavailable"),
    ResourceLimit: (422, "kernel-too-large"),
    DataUnavailable: (422, "data-unavailable"),
    InvalidLabels: (422, "invalid-labels"),
    InvalidInput: (422, "invalid-request"),
    NngpPriorError: (422, "invalid-request"),
}
_RETRYABLE = frozenset({408, 429, 500, 503, 507})
_LATER, _NEVER = frozenset({"result-not-ready"}), frozenset({"damaged-store"})


class Problem(Exception):
    """Error response.

    Args:
        status: HTTP status code.
        code: stable code for clients.
        detail: description of the fault, its value and the remedy.
        errors: faulty fields, ``{"location", "message"}`` each.
        headers: headers of the response.
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
        """Return the problem as a JSON object, with the id of the current request."""
        return {
            "type": f"urn:nngp-prior:problem:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "errors": self.errors,
            "request_id": structlog.contextvars.get_contextvars().get("request_id"),
            "retryable": (self.status in _RETRYABLE or self.code in _LATER) and self.code not in _NEVER,
        }

    def response(self) -> Response:
        """Return the problem as a response."""
        # ASCII, since text repeated from a request may not be valid Unicode.
        return Response(json.dumps(self.document()), self.status, self.headers, MEDIA_TYPE)


def internal_error() -> Problem:
    """Return the problem for an internal error; it reveals no details."""
    return Problem(500, "internal-error", "The service failed. Its log says why, beside this request's id.")


def stopping() -> Problem:
    """Return the problem for requests that wait while the service stops."""
    detail = "The service is being stopped. What it accepted is kept; ask again when it runs."
    return Problem(503, "stopping", detail, headers={"Retry-After": "1"})


def problem_of(error: Exception) -> Problem:
    """Convert an exception to a problem.

    Args:
        error: exception.

    Returns:
        its problem; ``internal-error`` if the exception is not in the table.
    """
    if isinstance(error, Problem):
        return error
    if descriptors.none_left(error):
        descriptors.report()
        detail = "The service has no file descriptors left. Send it again later, or raise its limit (ulimit -n)."
        return Problem(503, "out-of-descriptors", detail, headers={"Retry-After": "5"})
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        error = StorageFull("The disk is full. Make room and try again.")
    for ancestor in type(error).__mro__:
        if ancestor in TABLE:
            status, code = TABLE[ancestor]
            headers = {"Retry-After": "5"} if status == 503 else {}
            return Problem(status, code, str(error), _fields(error), headers)
    return internal_error()


def _fields(error: Exception) -> list[dict[str, str]]:
    if not isinstance(error, InvalidInput):
        return []
    return [{"location": error.field, "message": f"{error.problem}. {error.remedy}"}]
