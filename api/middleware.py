"""ASGI middleware that every request passes before its route."""

from __future__ import annotations

import asyncio
import hmac
import re
import uuid
from urllib.parse import quote

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, cookie_parser
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Problem, internal_error, stopping
from api.settings import ServerSettings
from api.token import is_token, session_of

SIGN_IN = "/sign-in"
ASSETS = "/assets"
OPEN = frozenset(  # without a token
    {"/healthz", "/readyz", SIGN_IN, f"{ASSETS}/page.css", f"{ASSETS}/page.js", f"{ASSETS}/icon.svg"}
)
COOKIE = "nngp-session"
STREAMED = ("PUT", "/v1/blobs/")  # bodies that the route reads and limits
UPLOADING = ("POST", "/new")  # likewise
_JOB = "/jobs/[0-9a-f]{64}"
# What a browser may read with a session cookie, and the forms that it may send from a page of the service.
_SHOWN = re.compile(
    rf"/|/docs(/docs\.(css|js))?|/openapi\.json|/new|/compare(/figure)?|{_JOB}(/[a-z]+(\.[a-z]+)?)?"
    rf"|/v1{_JOB}(/(report|events))?"
)
_FORMS = re.compile(rf"/new|/sign-out|{_JOB}/(dismiss|repeat|names)")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::\d*)?")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
_log = structlog.get_logger("api")


class Envelope:
    """Outermost middleware: request ids, common response headers, and status 500 for unexpected errors."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (ASGI)."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            return await self.app(scope, receive, send_with_headers)
        except asyncio.CancelledError:  # by the server, whose grace period is over
            if not started:
                await stopping().response()(scope, receive, send_with_headers)
        except ClientDisconnect:
            _log.info("the client left")
        except Problem as problem:
            await problem.response()(scope, receive, send_with_headers)
        except Exception:
            _log.exception("failed", method=scope["method"], path=scope["path"])
            if started:  # the server drops the connection, so that the client detects the truncated response
                raise
            await internal_error().response()(scope, receive, send_with_headers)
        return None


class HostCheck:
    """Refusal of unknown host names, by which a page of another site could reach this machine (DNS rebinding)."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self.app = app
        self._names = {name.lower().strip("[]") for name in (*_LOOPBACK, settings.host, *settings.allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (ASGI).

        Raises:
            Problem: if the host is not allowed.
        """
        if scope["type"] != "lifespan":
            host = Headers(scope=scope).get("host", "")
            match = _HOST.fullmatch(host)
            if match is None or match[1].lower().strip("[]") not in self._names:
                raise Problem(
                    400,
                    "forbidden-host",
                    f"The header Host is {host[:100]!r}, which this service is not called. Use localhost, or name it "
                    "in NNGP_ALLOWED_HOSTS.",
                )
        await self.app(scope, receive, send)


def is_shown(path: str) -> bool:
    """True for paths that a browser may read with a session cookie."""
    return _SHOWN.fullmatch(path) is not None


def is_form(method: str, path: str) -> bool:
    """True for requests by which forms of the service's pages change something."""
    return method == "POST" and _FORMS.fullmatch(path) is not None


class OriginCheck:
    """Refusal of forms sent by pages of other origins, including other ports of this machine (CSRF).

    Browsers send the session cookie to all ports of a host, and forms to any host, with a token required or not.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (ASGI).

        Raises:
            Problem: if a form is not from a page of this service.
        """
        if scope["type"] == "http" and is_form(scope["method"], scope["path"]):
            headers = Headers(scope=scope)
            site = headers.get("sec-fetch-site")  # not sent over plain HTTP to other machines
            own = f"{scope['scheme']}://{headers.get('host', '')}"
            if site != "same-origin" and (site is not None or headers.get("origin") != own):
                raise Problem(
                    403,
                    "cross-origin",
                    f"The form was not sent by a page of {own}. Open that page and send it there; scripts use /v1 with "
                    "the token.",
                )
        await self.app(scope, receive, send)


class TokenCheck:
    """Token check, except on open paths; on pages, a browser may present a session cookie instead."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self.app = app
        self._token = token
        self._session = b"" if token is None else session_of(token).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (ASGI).

        Raises:
            Problem: if the token is missing or wrong.
        """
        if scope["type"] == "lifespan" or self._token is None or scope["path"] in OPEN:
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        path, method = scope["path"], scope.get("method", "")
        shown = method in ("GET", "HEAD") and is_shown(path)
        if self._has_token(headers, self._token) or ((shown or is_form(method, path)) and self._has_session(headers)):
            return await self.app(scope, receive, send)
        if shown and "text/html" in headers.get("accept", ""):
            query = scope["query_string"].decode("latin-1")
            target = quote(f"{path}?{query}" if query else path, safe="/")
            return await RedirectResponse(f"{SIGN_IN}?next={target}", 303)(scope, receive, send)
        raise Problem(
            401,
            "unauthorized",
            "The token is missing or wrong. Send 'Authorization: Bearer <token>'; it is in the file token "
            "under NNGP_HOME.",
            headers={"WWW-Authenticate": "Bearer"},
        )

    @staticmethod
    def _has_token(headers: Headers, token: str) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        right = is_token(given.strip().encode("latin-1"), token)
        return scheme.lower() == "bearer" and right

    def _has_session(self, headers: Headers) -> bool:
        given = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
        return hmac.compare_digest(given.encode("latin-1", "replace"), self._session)


class HeadAsGet:
    """HEAD requests answered as GET without the body, on every path that supports GET."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (ASGI)."""
        if scope["type"] != "http" or scope["method"] != "HEAD" or scope["path"].startswith(STREAMED[1]):
            return await self.app(scope, receive, send)

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":  # do not wait for an event stream
                await send(message)
                await send({"type": "http.response.body", "body": b""})

        return await self.app({**scope, "method": "GET"}, receive, send_head)
