"""The service as a process: ``python -m api``, with settings from the environment.

What whoever starts it can mend (a setting, the port, the store) is told in one line, and its status is 2.
"""

from __future__ import annotations

import errno
import socket
import sys
from contextlib import ExitStack
from typing import NoReturn

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.app import create_app
from api.settings import ServerSettings, read_settings
from nngp_prior.errors import InvalidInput, NngpPriorError

_GRACE = 5  # seconds for open answers, such as streams of events, once it shall end
_BACKLOG = 512  # connections that wait; asyncio tries to accept as many each time, even when no descriptors are left
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def main() -> None:
    """Run the service until a signal ends it."""
    with ExitStack() as ends:
        try:
            settings = read_settings()
            sockets = listen(settings)
            for each in sockets:
                ends.enter_context(each)
            starting = _Starting(create_app(settings))
        except (NngpPriorError, OSError) as error:
            _refuse(error)
        config = uvicorn.Config(
            starting,
            lifespan="on",
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
            backlog=_BACKLOG,
        )
        try:
            uvicorn.Server(config).run(sockets)
        except KeyboardInterrupt:
            pass
        except SystemExit:
            if starting.error is None:
                raise
            _refuse(starting.error)


def listen(settings: ServerSettings) -> list[socket.socket]:
    """Listen before anything else is done: who comes early waits, and a port that is taken is known at once.

    Args:
        settings: with host and port.

    Returns:
        one socket for each address that the host has.

    Raises:
        InvalidInput: this machine has no such address, or the port cannot be had.
    """
    host, port = settings.host, settings.port
    here = "Give an address of this machine, such as 127.0.0.1."
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InvalidInput("NNGP_HOST", f"got {host!r} ({error})", here) from None
    sockets = []
    for family, address in sorted({(family, address[:2]) for family, _, _, _, address in found}):
        try:
            bound = socket.create_server((str(address[0]), int(address[1])), family=family)
            # asyncio sends small answers at once (TCP_NODELAY) only where a socket says that it is TCP's; else an
            # answer of two parts waits 40 ms for the other side's delayed acknowledgement.
            sockets.append(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=bound.detach()))
        except OSError as error:
            if error.errno in _NOT_HERE:  # a name may have addresses of kinds that are switched off
                continue
            why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
            remedy = "Choose another, or end what uses it."
            raise InvalidInput("NNGP_PORT", f"{port} {why} on {host}", remedy) from None
    if not sockets:
        raise InvalidInput("NNGP_HOST", f"got {host!r}, which is none of this machine's addresses", here)
    return sockets


class _Starting:
    """Around the application: keeps the error for which it does not start, instead of its traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.error: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            return await self.app(scope, receive, send)

        held: list[Message] = []

        async def hold(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                held.append(message)
            else:
                await send(message)

        try:
            return await self.app(scope, receive, hold)
        except (NngpPriorError, OSError) as error:
            self.error = error
            held = [{**message, "message": ""} for message in held]
            raise
        finally:
            for message in held:
                await send(message)


def _refuse(error: Exception) -> NoReturn:
    if not isinstance(error, NngpPriorError):
        remedy = "Mend that, or choose another folder."
        error = InvalidInput("NNGP_HOME", f"cannot be used ({error})", remedy)
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
