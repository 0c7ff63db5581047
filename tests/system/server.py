"""A real server in a process of its own, on a free port and with a store of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import psutil

TOKEN = "a-token-for-tests"
_PLAIN: dict[str, Any] = {"trust_env": False, "verify": False}  # no certificates are read, which takes 30 ms a client


class Server:
    """Started by :meth:`start`; may be killed and started again on the same store.

    Args:
        home: of its store.
        prefix: of its command, such as a shell that sets limits.
        **settings: as in the environment, without ``NNGP_``.
    """

    def __init__(self, home: Path, prefix: Sequence[str] = (), **settings: Any) -> None:
        self.home, self._prefix = home, prefix
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._settings = {"home": home, "token": TOKEN, "port": self.port, **settings}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> psutil.Process:
        """The server's."""
        assert self._process is not None
        return psutil.Process(self._process.pid)

    @property
    def workers(self) -> list[psutil.Process]:
        """Its children that compute."""
        return [child for child in self.process.children(recursive=True) if _computes(child)]

    def command(self) -> list[str]:
        """Command that is started."""
        return [*self._prefix, sys.executable, "-m", "api"]

    def environment(self) -> dict[str, str]:
        """Its settings."""
        return {f"NNGP_{name.upper()}": str(value) for name, value in self._settings.items()}

    def start(self) -> Server:
        """Start it, and wait until it is ready."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "server.log").open("ab") as log:
            environment = os.environ | self.environment()
            self._process = subprocess.Popen(self.command(), env=environment, stdout=log, stderr=log)
        wait_for(self._ready, 60, lambda: f"no server:\n{self.log()[-3000:]}")
        return self

    def stop(self) -> None:
        """End it as a person would."""
        self._end(signal.SIGTERM)

    def interrupt(self) -> None:
        """End it as Ctrl-C does."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill -9."""
        self._end(signal.SIGKILL)

    def log(self) -> str:
        """What it and its workers wrote."""
        return (self.home / "server.log").read_text(errors="replace")

    def http(self, **options: Any) -> httpx2.Client:
        """A client with the token."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=60, **_PLAIN, **options)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            with suppress(psutil.NoSuchProcess):  # it has ended
                self.process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()[-3000:]
        try:
            return httpx2.get(f"{self.url}/readyz", **_PLAIN).status_code == 200
        except httpx2.TransportError:
            return False


def _computes(child: psutil.Process) -> bool:
    try:
        return "api.executors.child" in child.cmdline()
    except psutil.Error:  # it has just died
        return False


def wait_for(condition: Callable[[], Any], seconds: float, why: Callable[[], str] = lambda: "") -> Any:
    """The condition's value as soon as it is true.

    Args:
        condition: asked 20 times a second.
        seconds: after which it is a failure.
        why: what to say then.

    Returns:
        the value.
    """
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, f"not within {seconds} s. {why()}"
        time.sleep(0.05)
    return value


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
