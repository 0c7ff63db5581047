from collections.abc import Iterator

import pytest
import stamina

from nngp_prior import Client
from tests.client.service import TOKEN, FakeService, fake_service


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    """A small service, which the environment points to."""
    with fake_service() as service:
        monkeypatch.setenv("NNGP_URL", service.url)
        monkeypatch.setenv("NNGP_TOKEN", TOKEN)
        yield service


@pytest.fixture
def client(service: FakeService) -> Iterator[Client]:
    with Client(timeout=5) as client:
        yield client


@pytest.fixture
def no_pauses() -> Iterator[None]:
    """Requests are made again at once, eight times at most."""
    with stamina.set_testing(True, attempts=8):
        yield
