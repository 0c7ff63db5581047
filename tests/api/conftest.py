"""Services in process: one a file, and one whose jobs wait for the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.api.apps import InProcess, client


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service with a store of its own, for all tests of a file."""
    with client(tmp_path_factory.mktemp("home")) as served:
        yield served


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[TestClient, InProcess]]:
    """A service, and its executor, which computes nothing before ``go_on`` is set."""
    executor = InProcess(tmp_path)
    executor.go_on.clear()
    with client(tmp_path, executor) as served:
        yield served, executor
