"""A client whose network and service fail while it uploads, submits and waits: nothing is lost, or there twice."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import pytest
import stamina

from nngp_prior import FullyConnected, LocalClient
from nngp_prior.client import Client
from tests.system.server import TOKEN, Server, wait_for

NET = FullyConnected(depth=1)
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((40, 300)), np.where(RNG.standard_normal((6, 40)) > 0, 1, -1)
OPTIONS = {"particles": 8, "replicates": 8}


@dataclass
class Fault:
    """What a connection suffers: an answer of the proxy itself, or an end after so many bytes."""

    answer: bytes = b""
    after_sent: int | None = None  # bytes of requests
    after_received: int | None = None  # bytes of responses


def answered(status: str) -> Fault:
    return Fault(f"HTTP/1.1 {status}\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())


@dataclass
class Proxy:
    """TCP proxy whose next connections suffer the faults of a list; those after them none."""

    port: int
    faults: list[Fault] = field(default_factory=list)
    suffered: int = 0

    def __post_init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = self._listening.accept()
                fault = self.faults.pop(0) if self.faults else Fault()
                self.suffered += fault != Fault()
                threading.Thread(target=self._serve, args=(connection, fault), daemon=True).start()

    def _serve(self, client: socket.socket, fault: Fault) -> None:
        with client, suppress(OSError):
            if fault.answer:
                client.recv(2**16)
                client.sendall(fault.answer)
                return
            with socket.create_connection(("127.0.0.1", self.port)) as server:
                back = threading.Thread(target=_copy, args=(server, client, fault.after_received), daemon=True)
                back.start()
                _copy(client, server, fault.after_sent)
                back.join()


def _copy(source: socket.socket, target: socket.socket, limit: int | None) -> None:
    """Copy until the end, or the limit, and close both directions then."""
    left = 2**62 if limit is None else limit
    with suppress(OSError):
        while left and (data := source.recv(min(left, 2**14))):
            target.sendall(data)
            left -= len(data)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("home"), slots=1, lease_seconds=2).start()
    yield server
    server.kill()


def expected(Y: np.ndarray) -> list[float]:
    return LocalClient().estimate(NET, X, Y, **OPTIONS).result().values.tolist()


@pytest.fixture
def _no_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=8):
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("_no_pauses")
def test_connections_that_break_in_uploads_submissions_and_responses(server: Server) -> None:
    proxy = Proxy(server.port)
    proxy.faults += [
        answered("503 Service Unavailable"),  # of the request whether the array is known
        Fault(after_sent=20_000),  # in the middle of the upload, which has 96 kB
        Fault(after_received=10),  # uploads are done, and this is not known
        answered("429 Too Many Requests"),
        Fault(after_received=40),  # in the middle of later responses
        answered("503 Service Unavailable"),
        Fault(after_received=300),
        Fault(after_received=5),
    ]
    with Client(proxy.url, TOKEN) as client:
        job = client.estimate(NET, X, Y, **OPTIONS)
        results = job.result(60)
        rows = sorted(job.results(), key=lambda result: result.labelling)
        assert client.estimate(NET, X, Y, **OPTIONS) == job
        assert [each.id for each in client.jobs()].count(job.id) == 1
        assert job.status().document["attempt"] == 1
    assert proxy.suffered == 8
    assert results.values.tolist() == [row.value for row in rows] == expected(Y)
    proxy.close()


@pytest.mark.slow
def test_the_server_is_started_again_while_a_client_submits_and_waits(server: Server) -> None:
    labels = np.concatenate([Y, -Y])
    found, submitted = [], threading.Event()
    with Client(server.url, TOKEN, timeout=60) as client:
        client.upload(X)

        def ask() -> None:
            job = client.estimate(NET, X, labels, **OPTIONS)
            submitted.set()
            found.append((job.id, job.result(120)))

        server.kill()
        asking = threading.Thread(target=ask)
        asking.start()  # nothing listens
        server.start()
        assert submitted.wait(60)
        server.kill()
        server.start()
        asking.join(120)
    ((id, results),) = found
    assert results.values.tolist() == expected(labels)
    with Client(server.url, TOKEN) as client:
        assert [each.id for each in client.jobs()].count(id) == 1
        assert [result.labelling for result in results] == list(range(len(labels)))
        wait_for(lambda: client.job(id).last.state == "successful", 10)
