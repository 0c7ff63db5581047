"""Request bodies: size and time limits, JSON parsing and validation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Coroutine, Iterable
from contextlib import AsyncExitStack
from typing import Any

from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import override

from api.errors import invalid, refused
from api.middleware import OPEN, SIGN_IN, STREAMED, UPLOADING, is_form
from api.problems import Problem
from api.settings import ServerSettings
from nngp_prior.schemas.pieces import decode

_OPEN_BYTES = 1024  # for requests without a token
_SMALL = 2**15  # bytes that are parsed and validated on the event loop
_MEMBERS = 20_000  # members per object
_LARGE = 2**18  # bytes from which a body counts as large
_HELD = 4  # large bodies in memory at a time


class BodyLimits:
    """Limits on bodies: JSON, or a page's form; uncompressed, limited in size and time. Read before routing."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self.app = app
        self._limit, self._timeout = settings.max_body_bytes, settings.body_timeout
        self._large = asyncio.Semaphore(_HELD)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (ASGI).

        Raises:
            Problem: if the body is refused.
        """
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        encoding = headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            raise Problem(415, "unsupported-media-type", f"The body is encoded ({encoding[:50]!r}). Send it as it is.")
        method, path = scope["method"], scope["path"]
        if (method == STREAMED[0] and path.startswith(STREAMED[1])) or (method, path) == UPLOADING:
            return await self.app(scope, self._in_time(receive), send)
        limit = min(self._limit, _OPEN_BYTES) if path in OPEN else self._limit
        stated = content_length(headers)
        if stated is not None:
            _require_length(stated, limit)
        async with AsyncExitStack() as held:
            body = await self._read(receive, limit, held)
            if body:
                form = path == SIGN_IN or is_form(method, path)
                require_type(headers, ("application/x-www-form-urlencoded" if form else "application/json",))
            return await self.app(scope, _replay(body, receive), send)

    async def _read(self, receive: Receive, limit: int, held: AsyncExitStack) -> bytes:
        body, large = bytearray(), False
        try:
            async with asyncio.timeout(self._timeout) as time:
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    body += message.get("body", b"")
                    _require_length(len(body), limit)
                    if not message.get("more_body", False):
                        return bytes(body)
                    if len(body) > _LARGE and not large:
                        large = True
                        time.reschedule(None)
                        await held.enter_async_context(self._large)
                        time.reschedule(asyncio.get_running_loop().time() + self._timeout)
        except TimeoutError:
            raise self._too_slow() from None

    def _in_time(self, receive: Receive) -> Receive:
        async def receive_in_time() -> Message:
            try:
                async with asyncio.timeout(self._timeout):
                    return await receive()
            except TimeoutError:
                raise self._too_slow() from None

        return receive_in_time

    def _too_slow(self) -> Problem:
        detail = f"The body did not arrive within {self._timeout:g} seconds. Send it again."
        return Problem(408, "request-timeout", detail, headers={"Connection": "close"})


class StrictRoute(APIRoute):
    """Route that refuses unknown parameters and parses and validates its JSON itself.

    Bodies that are not small are parsed in a thread, up to the limit on values. FastAPI would parse on the event loop;
    it receives the validated value and takes it as it is.
    """

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle, field = super().get_route_handler(), self.body_field
        fields = get_flat_params(self.dependant)
        known = {each.alias for each in fields if isinstance(each.field_info, Query)}

        async def read_and_handle(request: Request) -> Response:
            _require_known(request, known)
            body = b"" if field is None else await request.body()
            if not body:
                return await handle(request)
            service = request.app.state.service
            most = service.settings.max_body_values
            if len(body) <= _SMALL:
                value = _validated(field, body, most)
            else:
                value = await service.in_thread(_validated, field, body, most, limiter=service.reading)
            if isinstance(value, Problem):
                raise value
            return await handle(_Read(request, value))

        return read_and_handle


class _Read(Request):
    """Request whose body has been read."""

    def __init__(self, request: Request, value: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._value = value

    @override
    async def body(self) -> bytes:
        return b"..."  # FastAPI checks that there is one

    @override
    async def json(self) -> Any:
        return self._value


def _validated(field: Any, body: bytes, most: int) -> Any:
    """Parse and validate a body.

    Args:
        field: FastAPI's body field.
        body: JSON.
        most: largest number of JSON values.

    Returns:
        the argument of the route, or the exception that explains why there is none. It is not raised here, since its
        traceback would keep the body and its values alive.
    """
    values = 1 + sum(map(body.count, (b",", b"[", b"{")))
    if values > most:
        detail = f"The body has {values:,} values, and {most:,} are allowed (NNGP_MAX_BODY_VALUES). "
        return Problem(413, "too-many-values", f"{detail}Upload arrays with PUT /v1/blobs/{{sha256}}, or send less.")
    try:
        value = decode(body, _MEMBERS)
    except json.JSONDecodeError as error:
        context = {"error": error.msg}
        problem = {"type": "json_invalid", "loc": ("body", error.pos), "msg": error.msg, "input": {}, "ctx": context}
        return invalid([problem])
    except (ValueError, RecursionError):  # not text, numbers of thousands of digits, nested too deeply
        return Problem(422, "invalid-request", "The body cannot be read as JSON. Correct it.")
    validated, errors = field.validate(value, {}, loc=("body",))
    try:
        return invalid(errors, value) if errors else validated
    finally:
        del errors, value, validated  # the tracebacks of exceptions among the errors hold this frame


def _require_known(request: Request, known: Collection[str]) -> None:
    errors = []
    for name in request.query_params:
        if name not in known:
            remedy = f"This route has: {', '.join(sorted(known))}." if known else "This route has none."
            errors.append({"location": f"query.{name[:100]}", "message": f"there is no such parameter. {remedy}"})
    if errors:
        raise refused(errors)


def content_length(headers: Headers) -> int | None:
    """Return the reliable content length of a request.

    Args:
        headers: headers of the request.

    Returns:
        bytes; None if there is no length, or the body is chunked.
    """
    stated = headers.get("content-length", "")
    if "transfer-encoding" in headers or not (stated.isascii() and stated.isdigit()):
        return None
    return int(stated[:20])


def require_type(headers: Headers, types: Iterable[str]) -> None:
    """Refuse a body of another media type.

    Args:
        headers: headers of the request.
        types: accepted media types; an empty string accepts a missing header.

    Raises:
        Problem: if the type is none of them.
    """
    given = headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() not in types:
        wanted = " or ".join(name for name in types if name)
        raise Problem(415, "unsupported-media-type", f"The Content-Type is {given[:100]!r}. Send {wanted}.")


def _require_length(length: int, limit: int) -> None:
    if length > limit:
        remedy = "Send less." if limit <= _OPEN_BYTES else "Upload large arrays with PUT /v1/blobs/{sha256}."
        raise Problem(413, "body-too-large", f"The body is longer than {limit:,} bytes. {remedy}")


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that yields the body already read, then later messages."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive_again() -> Message:
        message = next(messages, None)
        return await receive() if message is None else message

    return receive_again
