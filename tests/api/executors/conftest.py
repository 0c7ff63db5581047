"""An executor with one child, which the tests of a module share."""

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
