"""uvicorn with a limit on connections, a timeout for headers, and waiting requests that end at shutdown."""

from __future__ import annotations

import asyncio
import resource
from functools import partial
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.problems import Problem
from api.settings import ServerSettings

_GRACE = 5  # seconds for open responses at shutdown
_BACKLOG = 512  # pending connections
_ACCEPTED = 8  # connections per wake-up; asyncio retries that many each time, even if no descriptors are left
_LINGER = 1.0  # seconds before a refused connection is closed, so that the response is read before a reset


class Server(uvicorn.Server):
    """Server whose shutdown answers requests that wait for jobs.

    Args:
        app: the application.
        settings: settings of the service.
        outer: wrapper of the application; default: the application itself.
    """

    def __init__(self, app: FastAPI, settings: ServerSettings, outer: ASGIApp | None = None) -> None:
        self._application = app
        most = min(settings.max_connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        idle: dict[Connection, None] = {}
        protocol: Any = partial(Connection, most=most, header_timeout=settings.header_timeout, idle=idle)
        config = uvicorn.Config(
            outer or app,
            http=protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            timeout_graceful_shutdown=_GRACE,
            backlog=_ACCEPTED,
        )
        super().__init__(config)

    @override
    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        for each in sockets or ():
            each.listen(_BACKLOG)

    @override
    async def shutdown(self, sockets: Any = None) -> None:
        self._application.state.service.stop_waiting()
        await super().shutdown(sockets)


class Connection(H11Protocol):
    """Connection that is closed if no complete header arrives within a timeout after its last response.

    A connection beyond the limit closes the one idle for longest; if none is idle, it is answered with 503.

    Args:
        *args: passed to uvicorn.
        most: largest number of connections.
        header_timeout: timeout, seconds.
        idle: connections without an open request, ordered by the start of idleness; shared by all connections.
        **options: passed to uvicorn.
    """

    def __init__(
        self, *args: Any, most: int, header_timeout: float, idle: dict[Connection, None], **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._most, self._header_timeout, self._idle = most, header_timeout, idle
        self._ending: asyncio.TimerHandle | None = None  # while idle
        self._refused = False

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        full = len(self.connections) >= self._most
        super().connection_made(transport)
        if full and not self._end_another():
            self._refuse()
        else:
            self._look()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._answering()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        if not self._refused:
            super().data_received(data)
            self._look()

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    @override
    def send_400_response(self, msg: str) -> None:
        self._send(Problem(400, "invalid-request", f"{msg} Send HTTP/1.1."))

    def _look(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._answering()
        elif self._ending is None and not self.transport.is_closing():
            self._ending = self.loop.call_later(self._header_timeout, self._end)
            self._idle[self] = None

    def _answering(self) -> None:
        self._idle.pop(self, None)
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None

    def _end(self) -> None:
        self._answering()
        if self.transport.get_write_buffer_size():  # unread data would keep it open
            self.transport.abort()
        else:
            self.transport.close()

    def _end_another(self) -> bool:
        oldest = next(iter(self._idle), None)
        if oldest is not None:
            oldest._end()
        return oldest is not None

    def _refuse(self) -> None:
        self._refused = True
        if len(self.connections) >= 2 * self._most:  # even these responses may be too many
            self.transport.abort()
            return
        detail = f"{self._most:,} connections are open already (NNGP_MAX_CONNECTIONS). Come back later."
        self._send(Problem(503, "too-many-connections", detail, headers={"Retry-After": "1"}))

    def _send(self, problem: Problem) -> None:
        """Answer a request without the application, and close."""
        answer = problem.response()
        headers = [*answer.raw_headers, (b"connection", b"close")]
        parts = [h11.Response(status_code=problem.status, headers=headers), h11.Data(data=bytes(answer.body))]
        for part in (*parts, h11.EndOfMessage()):
            self.transport.write(self.conn.send(part) or b"")
        self._refused = True
        self.loop.call_later(_LINGER, self.transport.close)
