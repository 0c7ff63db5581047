"""``nngp-prior serve``: the service, in its own process."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import typer

from nngp_prior.cli.common.processes import command, environment, run_module
from nngp_prior.errors import InvalidInput, NngpPriorError

_START = 60  # seconds allowed for the start of a service
_SERVICE = "api"


def serve(
    host: Annotated[str, typer.Option(envvar="NNGP_HOST", help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="NNGP_PORT", help="port to listen on")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(help="token that requests must carry; unlike NNGP_TOKEN, it is visible in the list of processes"),
    ] = None,
    no_token: Annotated[bool, typer.Option("--no-token", help="require no token; on loopback only")] = False,
    slots: Annotated[
        int | None, typer.Option(help="number of worker processes [number of cores; 1 with a GPU]")
    ] = None,
    memory_limit: Annotated[
        int | None, typer.Option(help="memory of all worker processes, bytes [80 % of RAM]")
    ] = None,
    database_url: Annotated[str | None, typer.Option(help="URL of the database of jobs [SQLite in NNGP_HOME]")] = None,
    dask_address: Annotated[
        str | None,
        typer.Option(
            help="address of a Dask scheduler, whose workers (nngp-prior worker) compute [this machine computes]"
        ),
    ] = None,
    queue_limit: Annotated[int | None, typer.Option(help="maximum number of waiting and running jobs [2000]")] = None,
    task_seconds: Annotated[float | None, typer.Option(help="maximum time of a unit of work, seconds [86400]")] = None,
) -> None:
    """Run the service until it is interrupted; further settings are read from the environment (NNGP_…).

    The exit status is the service's. The token, generated at the first start, is in the file token in NNGP_HOME.

    Raises:
        InvalidInput: if both a token and ``no_token`` are given.
    """
    if token is not None and no_token:
        raise InvalidInput("--token", "means nothing beside --no-token", "Leave one of them out.")
    chosen = {
        "host": host,
        "port": port,
        "token": token,
        "no_token": no_token or None,
        "slots": slots,
        "memory_limit": memory_limit,
        "database_url": database_url,
        "dask_address": dask_address,
        "queue_limit": queue_limit,
        "task_seconds": task_seconds,
    }
    sys.exit(run_module(_SERVICE, environment(**chosen)))


@contextmanager
def passing_service() -> Iterator[tuple[str, str]]:
    """Run a temporary service on a free loopback port with its own store; both are removed at the end.

    Yields:
        address and token.

    Raises:
        NngpPriorError: if it did not start.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url, token = f"http://127.0.0.1:{port}", secrets.token_urlsafe()
    with tempfile.TemporaryDirectory(prefix="nngp-prior-") as home, tempfile.TemporaryFile() as log:
        settings = {**os.environ, **environment(home=home, host="127.0.0.1", port=port, token=token)}
        process = subprocess.Popen(command(_SERVICE), env=settings, stdout=log, stderr=log, start_new_session=True)
        try:
            if not _is_ready(url, process):
                log.seek(0)
                raise NngpPriorError(f"The service did not start:\n{log.read().decode(errors='replace')[-2000:]}")
            yield url, token
        finally:
            process.terminate()
            process.wait()


def _is_ready(url: str, process: subprocess.Popen[bytes]) -> bool:
    """Wait until a service is ready; False if it ended, or did not start within a minute."""
    import httpx2

    until = time.monotonic() + _START
    with httpx2.Client(trust_env=False) as http:  # outside the loop: reads certificates
        while process.poll() is None and time.monotonic() < until:
            with suppress(httpx2.TransportError):
                if http.get(f"{url}/readyz").is_success:
                    return True
            time.sleep(0.1)
    return False
