"""Real servers, each with a store of its own."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.system.server import Server


@pytest.fixture
def serve(tmp_path) -> Iterator[Callable[..., Server]]:
    """Starts servers that end with the test."""
    started: list[Server] = []

    def start(**options: Any) -> Server:
        server = Server(tmp_path / f"home{len(started)}", **options)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.kill()
