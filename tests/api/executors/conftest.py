"""Executors with one child, which the tests of a module share: one that misbehaves, and one that computes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.executors.local import LocalExecutor
from tests.api.executors.tasks import make


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def executor(home: Path) -> Iterator[LocalExecutor]:
    executor = make(home)
    yield executor
    executor.close()


@pytest.fixture(scope="module")
def computing(home: Path) -> Iterator[LocalExecutor]:
    executor = LocalExecutor(1, home=home, blobs=home / "blobs", task_seconds=60.0)
    yield executor
    executor.close()
