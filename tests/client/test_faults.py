"""Services that fail, and come back."""

import socket
import time
from contextlib import ExitStack

import numpy as np
import pytest

from nngp_prior import Client, FullyConnected
from nngp_prior.errors import ServiceError
from nngp_prior.schemas.specs.data import Digits, Parity
from tests.client.service import TOKEN, FakeService, Handler, fake_service, hang_up, refuse

NET = FullyConnected(depth=1)


def estimate(client: Client):
    return client.estimate(NET, Digits(n=4), [Parity()] * 3)


@pytest.mark.parametrize(
    "fault",
    [
        hang_up,
        refuse(429, "queue-full"),
        refuse(503, "busy"),
        refuse(507, "storage-full"),
        refuse(429, "queue-full", Retry_After="0"),
        lambda handler: handler.answer(503, b"starting", "text/plain"),
    ],
)
@pytest.mark.usefixtures("no_pauses")
def test_temporary_faults_are_retried(client: Client, service: FakeService, fault) -> None:
    service.faults.update({method: [fault] * 2 for method in ("HEAD", "PUT", "POST", "GET", "DELETE")})
    job = client.estimate(NET, np.eye(4), [1, 1, -1, 1])
    assert job.result().values.tolist() == [-10.0]
    job.dismiss()
    assert [service.count(method) for method in ("HEAD", "PUT", "POST", "DELETE")] == [4, 4, 3, 3]


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422, 500])
@pytest.mark.usefixtures("no_pauses")
def test_permanent_faults_are_not_retried(client: Client, service: FakeService, status: int) -> None:
    service.faults["POST"] = [refuse(status, "code")] * 2
    with pytest.raises(ServiceError) as raised:
        estimate(client)
    assert (raised.value.status, service.count("POST")) == (status, 1)


def test_retry_after_is_the_pause(client: Client, service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    service.faults["POST"] = [refuse(429, "queue-full", Retry_After="3")]

    def paused(_: str, reason: str, seconds: float) -> None:
        assert 3 <= seconds <= 3.3
        raise InterruptedError

    monkeypatch.setattr("nngp_prior.client.http._log.warning", paused)
    with pytest.raises(InterruptedError):
        estimate(client)


def test_retry_after_beyond_the_timeout_is_an_error(client: Client, service: FakeService) -> None:
    service.faults["POST"] = [refuse(429, "queue-full", "2,000 jobs wait.", Retry_After="3600")] * 2
    with pytest.raises(ServiceError, match="2,000 jobs wait") as raised:
        estimate(client)
    assert (raised.value.code, raised.value.retryable, raised.value.retry_after) == ("queue-full", True, 3600.0)
    assert service.count("POST") == 1


@pytest.mark.usefixtures("no_pauses")
def test_retries_end(client: Client, service: FakeService) -> None:
    service.faults["POST"] = [refuse(507, "storage-full", "The disk is full.")] * 100
    with pytest.raises(ServiceError, match="The disk is full") as raised:
        estimate(client)
    assert raised.value.code == "storage-full"
    assert service.count("POST") == 8


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.mark.usefixtures("no_pauses")
def test_unreachable_service_is_an_error_that_names_its_address() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url, TOKEN) as client, pytest.raises(ServiceError, match="nngp-prior serve") as raised:
        list(client.jobs())
    assert (raised.value.code, raised.value.status, raised.value.retryable) == ("unreachable", None, True)
    assert url in str(raised.value)


def test_first_request_gives_up_early(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nngp_prior.client.http._NOBODY", 0.2)
    began = time.monotonic()
    with Client(f"http://127.0.0.1:{free_port()}", TOKEN) as client, pytest.raises(ServiceError) as raised:
        list(client.jobs())
    assert time.monotonic() - began < 3
    assert (raised.value.code, raised.value.__cause__, raised.value.__suppress_context__) == ("unreachable", None, True)


@pytest.mark.usefixtures("no_pauses")
def test_service_that_starts_meanwhile_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    with ExitStack() as started:
        monkeypatch.setattr("nngp_prior.client.http._log.warning", lambda *_: started.enter_context(fake_service(port)))
        with Client(f"http://127.0.0.1:{port}", TOKEN) as client:
            assert len(estimate(client).result()) == 3


@pytest.mark.usefixtures("no_pauses")
def test_retries_are_logged_and_not_printed(
    client: Client, service: FakeService, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    service.faults["GET"] = [refuse(503, "busy", "Busy")]
    list(client.jobs())
    assert capsys.readouterr().out == ""
    assert "Busy. Trying again" in caplog.text


def test_proxies_are_not_used_for_this_machine(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with Client(timeout=1) as client:
        assert list(client.jobs()) == []


@pytest.mark.usefixtures("no_pauses")
def test_broken_stream_of_results_is_requested_again(client: Client, service: FakeService) -> None:
    job = estimate(client)
    job.wait()

    def half(handler: Handler) -> None:
        handler.pieces("application/x-ndjson", '{"labelling": 0, "log_p": -1, "stder', whole=False)

    def one(handler: Handler) -> None:
        line = '{"labelling": 1, "log_p": -11.0, "stderr": null, "status": "ok", "message": ""}\n'
        handler.pieces("application/x-ndjson", line, '{"labelling": 2,', whole=False)

    def cut(handler: Handler) -> None:
        handler.pieces("application/x-ndjson", '{"labelling": 0, "log_p')

    service.faults[f"GET /v1/jobs/{job.id}/results"] = [half, one, cut, hang_up]
    assert [(result.labelling, result.value) for result in job.results()] == [(1, -11.0), (0, -10.0), (2, -12.0)]


@pytest.mark.usefixtures("no_pauses")
def test_broken_stream_of_events_continues_after_the_last_event(client: Client, service: FakeService) -> None:
    job = estimate(client)
    path = f"GET /v1/jobs/{job.id}/events"

    def break_after_two(handler: Handler) -> None:
        one = "id: 1\nevent: accepted\ndata: {}\n\n"
        handler.pieces("text/event-stream", one, 'id: 2\nevent: running\ndata: {"a": 1}\n\nid: 3\nev', whole=False)

    service.faults[path] = [break_after_two, hang_up]
    events = list(job.events())
    assert [(event.id, event.type) for event in events] == [
        ("1", "accepted"),
        ("2", "running"),
        ("3", "rows"),
        ("4", "successful"),
    ]
    assert events[1].data == {"a": 1}
    asked = [headers.get("last-event-id") for method, at, headers in service.asked if at.endswith("/events")]
    assert asked == [None, "2", "2"]


def test_events_start_after_a_given_event(client: Client, service: FakeService) -> None:
    job = estimate(client)
    assert [event.type for event in job.events(after="2")] == ["rows", "successful"]
    job.wait()
    assert list(job.events(after="4")) == []


def test_response_that_is_no_event_stream_is_an_error(client: Client, service: FakeService) -> None:
    job = estimate(client)
    service.faults[f"GET /v1/jobs/{job.id}/events"] = [lambda handler: handler.answer(200, {})]
    with pytest.raises(ServiceError, match="event-stream"):
        list(job.events())
