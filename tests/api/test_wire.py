"""Over a socket: slow, cut off and endless requests, and answers while a body is still coming."""

import json
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from api.app import create_app
from api.server import Server
from tests.api.apps import TOKEN, InProcess, header, npy, settings, sha256

HEAD = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
QUICK = 0.3  # seconds that a body may take


@contextmanager
def serving(home: Path, **fields: Any) -> Iterator[int]:
    chosen = settings(home, **fields)
    server = Server(create_app(chosen, InProcess(home)), chosen)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wire")


@pytest.fixture(scope="module")
def port(home: Path) -> Iterator[int]:
    with serving(home, body_timeout=QUICK) as port:
        yield port


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A service that waits for no header, which would end connections of other tests."""
    with serving(tmp_path_factory.mktemp("impatient"), header_timeout=QUICK) as port:
        yield port


def ask(port: int, start: str, *parts: bytes, pause: float = 0) -> tuple[int, dict[str, Any]]:
    """Send a request; what comes back, as soon as it comes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as wire:
        wire.sendall(f"{start} HTTP/1.1\r\n{HEAD}".encode() + parts[0])
        with suppress(BrokenPipeError, ConnectionResetError):  # it was answered before it was sent
            for part in parts[1:]:
                time.sleep(pause)
                wire.sendall(part)
        received = b""
        while b"\r\n\r\n" not in received:
            more = wire.recv(65_536)
            assert more, received
            received += more
        head, _, body = received.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        while len(body) < int(fields.get(b"content-length", 0)):
            body += wire.recv(65_536)
        return int(head.split()[1]), json.loads(body)


def test_a_slow_body_is_408(port: int) -> None:
    start = b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    status, found = ask(port, "POST /v1/datasets", start)
    assert (status, found["code"], found["retryable"]) == (408, "request-timeout", True)
    # A byte now and then does not help.
    status, found = ask(port, "POST /v1/datasets", start, *[b" "] * 4, pause=QUICK / 3)
    assert status == 408


def test_a_slow_upload_is_408_and_leaves_nothing(port: int, home: Path) -> None:
    content = npy(np.ones(1_000))
    start = f"Content-Length: {len(content)}\r\n\r\n".encode() + content[:500]
    status, found = ask(port, f"PUT /v1/blobs/{sha256(content)}", start)
    assert (status, found["code"]) == (408, "request-timeout")
    assert list((home / "blobs").glob("*.tmp")) == []


def test_an_upload_may_take_longer_than_that_in_all(port: int) -> None:
    content = npy(np.ones(10))
    parts = [content[i : i + 60] for i in range(0, len(content), 60)]
    start = f"Content-Length: {len(content)}\r\n\r\n".encode()
    status, _ = ask(port, f"PUT /v1/blobs/{sha256(content)}", start, *parts, pause=QUICK / 2)
    assert len(parts) > 2
    assert status == 201


def test_an_upload_that_is_cut_off_leaves_nothing(port: int, home: Path) -> None:
    content = npy(np.ones(500_000))
    with socket.create_connection(("127.0.0.1", port), timeout=20) as wire:
        wire.sendall(
            f"PUT /v1/blobs/{sha256(content)} HTTP/1.1\r\n{HEAD}Content-Length: {len(content)}\r\n\r\n".encode()
        )
        wire.sendall(content[:1_500_000])
        until(lambda: any((home / "blobs").glob("*.tmp")))
    until(lambda: not any((home / "blobs").glob("*.tmp")))
    assert not list((home / "blobs").glob(f"*/{sha256(content)}.npy"))


def test_chunks_are_411_for_arrays_and_limited_for_json(port: int) -> None:
    chunked = b"Transfer-Encoding: chunked\r\n"
    status, found = ask(port, f"PUT /v1/blobs/{'0' * 64}", chunked + b"\r\n5\r\nhello\r\n")
    assert (status, found["code"]) == (411, "length-required")
    chunk = b"100000\r\n" + b" " * 2**20 + b"\r\n"
    status, found = ask(port, "POST /v1/datasets", chunked + b"Content-Type: application/json\r\n\r\n", *[chunk] * 9)
    assert (status, found["code"]) == (413, "body-too-large")


@pytest.mark.parametrize("length", [7 * 2**40, 2**32])
def test_a_length_that_is_refused_is_answered_before_the_body(port: int, length: int) -> None:
    start = f"Content-Length: {length + 1}\r\n\r\n".encode()
    for request in (f"PUT /v1/blobs/{'0' * 64}", "POST /v1/datasets"):
        status, found = ask(port, request, start)
        assert (status, found["code"]) == (413, "body-too-large")


def test_a_header_that_is_refused_is_answered_before_the_body(port: int) -> None:
    """400 MB are stated, and 7 TiB claimed; one part of it is enough to see that."""
    content = header("{'descr': '<f8', 'fortran_order': False, 'shape': (999999, 999999), }")
    start = f"Content-Length: {400 * 10**6}\r\n\r\n".encode()
    status, found = ask(port, f"PUT /v1/blobs/{'0' * 64}", start, content + bytes(2**20))
    assert (status, found["code"]) == (422, "invalid-array")
    assert "make 7,999,984,000,008" in found["detail"]


def test_a_known_array_need_not_be_sent_again(port: int) -> None:
    content = npy(np.arange(20.0))
    start = f"Content-Length: {len(content)}\r\n\r\n".encode()
    assert ask(port, f"PUT /v1/blobs/{sha256(content)}", start, content)[0] == 201
    assert ask(port, f"PUT /v1/blobs/{sha256(content)}", start)[0] == 200


def test_memory_stays_flat(port: int) -> None:
    """Bodies that are refused, and then sent all the same, are let go of as they come."""
    part, parts = bytes(2**20), 80
    start = f"Content-Length: {len(part) * parts}\r\n\r\n".encode()
    ask(port, "POST /v1/datasets", start, part)
    before, peak = psutil.Process().memory_info().rss, 0
    for request in ("POST /v1/datasets", f"PUT /v1/blobs/{'0' * 64}"):
        ask(port, request, start, *[part] * parts)
        peak = max(peak, psutil.Process().memory_info().rss)
    assert peak - before < 30 * 2**20


def until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_labels_are_made_no_more_when_the_client_has_left(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do others wait for them."""
    made = 0

    def slow(labelling: Any, classes: np.ndarray, *_: Any) -> np.ndarray:
        nonlocal made
        made += 1
        time.sleep(0.02)
        return np.ones(len(classes), np.int8)

    monkeypatch.setattr("nngp_prior.prior.request_context.label", slow)
    labellings = [{"kind": "random", "seed": seed} for seed in range(2_000)]
    body = json.dumps({"dataset": {"kind": "digits", "n": 5}, "labellings": labellings}).encode()
    start = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as wire:
        wire.sendall(f"POST /v1/labellings HTTP/1.1\r\n{HEAD}".encode() + start + body)
        until(lambda: made)
        other = json.dumps({"dataset": {"kind": "digits", "n": 6}, "labellings": [{"kind": "constant"}]}).encode()
        start = f"Content-Type: application/json\r\nContent-Length: {len(other)}\r\n\r\n".encode()
        for path in ("estimates", "estimates?dry_run=true"):
            assert ask(port, f"POST /v1/{path}", start, other)[0] in (200, 201)
    assert ask(port, "POST /v1/labellings", start, other)[0] == 201
    assert made < 1_000


def closed(wire: socket.socket) -> bytes:
    """All that a connection gives until the service ends it."""
    received = b""
    with suppress(ConnectionResetError):
        while more := wire.recv(65_536):
            received += more
    return received


GET = f"GET /healthz HTTP/1.1\r\n{HEAD}\r\n".encode()


@pytest.mark.parametrize(
    ("parts", "answers"),
    [
        ([b""], 0),
        ([b"GET /healthz HT"], 0),
        ([b"GET /healthz HTTP/1.1\r\n", *[b"X: y\r\n"] * 20], 0),
        ([GET, b"G"], 1),
        ([b"POST /v1/datasets HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n", *[b"x"] * 20], 1),
    ],
    ids=["nothing", "half a line", "headers now and then", "half a second request", "an endless body without token"],
)
def test_connections_that_send_no_request_are_ended(impatient: int, parts: list[bytes], answers: int) -> None:
    with socket.create_connection(("127.0.0.1", impatient), timeout=10) as wire:
        with suppress(BrokenPipeError, ConnectionResetError):
            for part in parts:
                wire.sendall(part)
                time.sleep(QUICK / 10)
        assert closed(wire).count(b"HTTP/1.1 ") == answers


def is_well(wire: socket.socket) -> bool:
    wire.sendall(GET)
    received = b""
    while b'{"status":"ok"}' not in received and (more := wire.recv(4096)):
        received += more
    return received.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(("most", "descriptors"), [(3, 1024), (1000, 6)], ids=["setting", "half of the descriptors"])
def test_one_connection_too_many_ends_the_one_that_was_idle_for_longest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, descriptors: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, descriptors))
    with serving(tmp_path, max_connections=most) as port, ExitStack() as open_ones:

        def connect() -> socket.socket:
            return open_ones.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))

        idle = [connect() for _ in range(3)]
        assert is_well(idle[0])
        assert is_well(connect())
        assert closed(idle[1]) == b""
        assert is_well(idle[0])


def test_where_all_connections_work_one_more_is_503(tmp_path: Path) -> None:
    with serving(tmp_path, max_connections=2) as port, ExitStack() as open_ones:
        busy = [open_ones.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)) for _ in range(2)]
        for wire in busy:
            start = f"POST /v1/datasets HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\nContent-Length: 30\r\n"
            wire.sendall(f"{start}Expect: 100-continue\r\n\r\n".encode())
            assert wire.recv(4096).startswith(b"HTTP/1.1 100 ")  # the service has begun to read the body
            wire.sendall(b"{")
        status, found = ask(port, "GET /healthz", b"\r\n")
        assert (status, found["code"], found["retryable"]) == (503, "too-many-connections", True)
        assert "2 connections are open" in found["detail"]
        for wire in busy:
            wire.sendall(b'"kind": "digits", "n": 5}    ')
            assert wire.recv(4096).split()[1] in (b"200", b"201")


def test_what_is_no_http_is_a_problem(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        wire.sendall(b"hello\r\n\r\n")
        answer = closed(wire)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"application/problem+json" in answer


def test_only_proxies_that_are_named_are_believed(tmp_path: Path) -> None:
    form = b"X-Forwarded-Proto: https\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    body = f"token={TOKEN}".encode()
    for trusted, secure in (("", False), ("127.0.0.1", True), ("10.0.0.1", False)):
        with (
            serving(tmp_path, trusted_proxies=trusted) as port,
            socket.create_connection(("127.0.0.1", port), timeout=10) as wire,
        ):
            start = b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + form
            wire.sendall(start + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            answer = closed(wire)
            assert b" 303 " in answer
            assert (b"Secure" in answer) is secure
