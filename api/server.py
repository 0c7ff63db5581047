"""The server: uvicorn, with a limit on connections, a time for headers, and waits that end with it."""

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

_GRACE = 5  # seconds for open answers, once it shall end
_BACKLOG = 512  # connections that wait
_ACCEPTED = 8  # at once; asyncio tries to accept as many each time, even when no descriptors are left
_LINGER = 1.0  # seconds from an answer to the end of its connection, so that it is read before the connection is reset


class Server(uvicorn.Server):
    """Serves an application; who waits for jobs is answered when the service is ended.

    Args:
        app: the application.
        settings: of the service.
        outer: around the application; the application itself when absent.
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
    """A connection, which is ended if it has sent no whole header for some time since its last answer.

    One more than there may be ends the one that has been idle for longest; if none is idle, it is answered 503.

    Args:
        *args: as uvicorn has them.
        most: number of connections.
        header_timeout: seconds.
        idle: connections on which no request is answered, in the order in which they came to be so; shared by all.
        **options: as uvicorn has them.
    """

    def __init__(
        self, *args: Any, most: int, header_timeout: float, idle: dict[Connection, None], **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._most, self._header_timeout, self._idle = most, header_timeout, idle
        self._ending: asyncio.TimerHandle | None = None  # while no request is answered
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
        if self.transport.get_write_buffer_size():  # what is not read would keep it open
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
        if len(self.connections) >= 2 * self._most:  # even answers of this kind may be too many
            self.transport.abort()
            return
        detail = f"{self._most:,} connections are open already (NNGP_MAX_CONNECTIONS). Come back later."
        self._send(Problem(503, "too-many-connections", detail, headers={"Retry-After": "1"}))

    def _send(self, problem: Problem) -> None:
        """Answer a request that no application sees, and end."""
        answer = problem.response()
        headers = [*answer.raw_headers, (b"connection", b"close")]
        parts = [h11.Response(status_code=problem.status, headers=headers), h11.Data(data=bytes(answer.body))]
        for part in (*parts, h11.EndOfMessage()):
            self.transport.write(self.conn.send(part) or b"")
        self._refused = True
        self.loop.call_later(_LINGER, self.transport.close)
