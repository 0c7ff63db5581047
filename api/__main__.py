"""The service as a process: ``python -m api``, with settings from the environment.

Errors that the user can fix (a setting, the port, the store) are printed in one line; the exit status is then 2.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import socket
import sys
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NoReturn

from api.settings import ServerSettings, read_settings
from nngp_prior.errors import InvalidInput, NngpPriorError
from nngp_prior.extras import require_extra
from nngp_prior.settings import ADDRESS

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_COLLECTIONS = (2_000, 10, 1_000)  # new objects per young collection, young per middle, middle per full collection
_MEMORY = ((-8, 2), (-3, 2**17))  # two malloc heaps at most; blocks from 128 KiB are mapped, and returned when freed
_SWITCH = 0.002  # seconds before a waiting thread may preempt the running one
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def main() -> None:
    """Run the service until a signal ends it."""
    with ExitStack() as ends:
        try:
            require_extra("service")
            from api.app import create_app  # what needs the extra, once it is known to be installed
            from api.server import Server

            settings = read_settings(ServerSettings)
            sockets = listen(settings)
            for each in sockets:
                ends.enter_context(each)
            address = _Address(settings, sockets)
            app = create_app(settings)
            starting = _Starting(app, address)
        except (NngpPriorError, OSError) as error:
            _refuse(error)
        _run_smoothly()
        try:
            Server(app, settings, starting).run(sockets)
        except KeyboardInterrupt:
            pass
        except SystemExit:
            if starting.error is None:
                raise
            _refuse(starting.error)


def _run_smoothly() -> None:
    """Tune garbage collection, malloc and thread switching for low latency and memory.

    A full collection stops all threads for about 0.1 s per million objects. Imported modules are never garbage, and a
    large request creates a million objects that reference counting soon frees.
    """
    with suppress(OSError, AttributeError):  # glibc only
        for option in _MEMORY:
            ctypes.CDLL(None).mallopt(*option)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTIONS)
    sys.setswitchinterval(_SWITCH)


def listen(settings: ServerSettings) -> list[socket.socket]:
    """Bind and listen before anything else: early clients wait, and a port in use is detected at once.

    Args:
        settings: settings with host and port.

    Returns:
        one socket per address of the host.

    Raises:
        InvalidInput: if this machine has no such address, or the port is unavailable.
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
            # asyncio sets TCP_NODELAY only if the socket's protocol is IPPROTO_TCP; without it, a response in two parts
            # waits 40 ms for the delayed acknowledgement.
            sockets.append(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=bound.detach()))
        except OSError as error:
            if error.errno in _NOT_HERE:  # the name may resolve to address families that are disabled
                continue
            why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
            remedy = "Choose another, or end what uses it."
            raise InvalidInput("NNGP_PORT", f"{port} {why} on {host}", remedy) from None
    if not sockets:
        raise InvalidInput("NNGP_HOST", f"got {host!r}, which is none of this machine's addresses", here)
    return sockets


class _Address:
    """Address file in ``NNGP_HOME``, by which clients on this machine find the service while it runs.

    Args:
        settings: settings with ``home``.
        sockets: listening sockets.
    """

    def __init__(self, settings: ServerSettings, sockets: list[socket.socket]) -> None:
        host, port = sockets[0].getsockname()[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(str(host), str(host))  # wildcard: use loopback
        self._url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self._file, self._written = settings.home / ADDRESS, False

    def write(self) -> None:
        with suppress(OSError):  # clients can be given the address explicitly
            self._file.write_text(f"{self._url}\n", encoding="utf-8")
            self._written = True

    def remove(self) -> None:
        with suppress(OSError):
            if self._written and self._file.read_text(encoding="utf-8") == f"{self._url}\n":  # of no other service
                self._file.unlink()


class _Starting:
    """Wrapper of the application that maintains the address file and keeps the error of a failed start-up."""

    def __init__(self, app: ASGIApp, address: _Address) -> None:
        self.app, self.address = app, address
        self.error: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            return await self.app(scope, receive, send)

        held: list[Message] = []

        async def hold(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                held.append(message)
            else:
                if message["type"] == "lifespan.startup.complete":
                    self.address.write()
                elif (
                    message["type"] == "lifespan.shutdown.complete"
                ):  # no code runs after a signal that is raised again
                    self.address.remove()
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
        remedy = "Correct that, or choose another folder."
        error = InvalidInput("NNGP_HOME", f"cannot be used ({error})", remedy)
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
