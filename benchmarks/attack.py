"""Requests that try to take the service away from others: what they cost, and whether it answers meanwhile.

The server is a process of its own with a fresh store. Each request is sent again and again for some seconds while
``/healthz`` is asked 50 times a second; an answer counts from the time at which it should have been asked for.
"""

from __future__ import annotations

import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.probe import HERTZ
from benchmarks.report import Column, Table, say
from nngp_prior.client import Client
from tests.system.server import TOKEN, Server

_GOALS = {"p99, ms": 50, "peak, MB": 400}
_BODY = 8 * 2**20  # bytes, as many as are allowed
_VALUES = 499_000  # as many as are allowed, nearly
_SUBSCRIBERS = 200
_JSON = {"Content-Type": "application/json"}
_DIGITS = {"kind": "digits", "n": 50}
_PARITY = [{"kind": "parity"}]
_ESTIMATES = "/v1/estimates?dry_run=true"
_MEMORY = 64 * 2**30  # bytes that workers are said to have, so that large inputs are not refused at once


class _Case(NamedTuple):
    """What is sent; with ``side``, what another client asks for meanwhile."""

    name: str
    send: Callable[[], Any]
    side: Callable[[], Any] | None = None


def run(quick: bool) -> list[Table]:
    """All requests, one after another."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), slots=1, memory_limit=_MEMORY).start()
        try:
            watch = _Watch(server)
            rows = [_measured(server, watch, case, 1.0 if quick else 6.0) for case in _cases(server, quick)]
            watch.close()
        finally:
            server.stop()
    return [_table(rows)]


def _cases(server: Server, quick: bool) -> Iterator[_Case]:
    yield _Case("nothing", lambda: time.sleep(0.5))
    for name, path, body in _bodies():
        yield _Case(name, _posting(server, path, body))
    client = Client(server.url, TOKEN)
    labels = client.upload(np.ones((10**5 if quick else 10**7, 20), np.int8))
    named = {"kind": "blob", "sha256": labels}
    yield _Case("labels: a blob of 10,000,000 rows", _posting(server, _ESTIMATES, _body(_DIGITS, [named])))
    yield _Case("labels: that blob 80,000 times", _posting(server, _ESTIMATES, _body(_DIGITS, [named] * 80_000)))
    data = {"kind": "blob", "sha256": client.upload(np.ones((400, 1_000 if quick else 10**6), np.int8))}
    yield _Case("inputs: 400 MB named", _posting(server, "/v1/datasets", json.dumps(data)))
    yield _Case("inputs: 400 MB, estimates", _posting(server, _ESTIMATES, _body(data, [{"kind": "random"}])))
    yield from _of_jobs(server, client, quick)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    yield _Case("no token: a form of 8 MiB", _posting(server, "/sign-in", "a=b&" * (_BODY // 4), form, token=False))
    yield _Case("no token: 8 MiB to /healthz", _posting(server, "/healthz", "x" * _BODY, token=False))
    for name, start in (("idle", b""), ("half-sent", b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\n")):
        yield _Case(f"no token: 2,000 {name} connections", lambda start=start: _connect(server, start))
    bits = 11 if quick else 20
    random_labels = [{"kind": "random", "seed": seed} for seed in range(3_000)]
    submit = _posting(server, "/v1/estimates", _body(_DIGITS, _PARITY, estimator={"kind": "ep"}))
    for which, size in ((f"{2**bits:,}", bits), (f"{2**15:,}", min(bits, 15))):
        body = json.dumps({"dataset": {"kind": "boolean", "bits": size}, "labellings": random_labels})
        send = _posting(server, "/v1/labellings", body)
        yield _Case(f"2 × 3,000 random labellings of {which} inputs", lambda send=send: _twice(send), submit)


def _bodies() -> Iterator[tuple[str, str, str]]:
    """JSON of 8 MiB, or with nearly as many values as are allowed."""
    wrong = ["abcdefghijkl"] * _VALUES
    numbers = [random.Random(i).random() for i in range(400_000)]
    right = {"kind": "inline", "x": [numbers[i : i + 1000] for i in range(0, len(numbers), 1000)]}
    yield "8 MiB of values", _ESTIMATES, f'{{"x": [{"1," * (_BODY // 2 - 50)}1]}}'
    explicit = [{"kind": "explicit", "values": wrong}]
    yield "wrong labels", _ESTIMATES, _body(_DIGITS, explicit)
    yield "wrong labels, the last one", _ESTIMATES, _body(_DIGITS, [{**explicit[0], "values": [1] * _VALUES + ["a"]}])
    yield "wrong labellings", _ESTIMATES, _body(_DIGITS, [{"kind": "no"}] * (_VALUES // 2))
    yield "wrong inputs", _ESTIMATES, _body({"kind": "inline", "x": [wrong]}, _PARITY)
    yield "wrong fields", _ESTIMATES, json.dumps({f"{i}": 1 for i in range(_VALUES)})
    yield "objects", _ESTIMATES, json.dumps([{"a": 1}] * (_VALUES // 2))
    yield "right inputs", _ESTIMATES, _body(right, [{"kind": "random"}])
    many = [{"kind": "random", "seed": seed} for seed in range(100_000)]
    yield "100,000 labellings", _ESTIMATES, _body(_DIGITS, many, estimator={"kind": "ep"})
    deep = {"kind": "residual", "blocks": [10**6] * 3}
    yield "10^6 residual blocks", _ESTIMATES, _body(_DIGITS, _PARITY, architecture=deep)


def _of_jobs(server: Server, client: Client, quick: bool) -> Iterator[_Case]:
    """Lists of jobs with long requests, and subscribers to one that is computed."""
    ids = []
    with server.http() as http:
        for job in range(3 if quick else 15):
            values = [[1] * 9_000 + [(-1) ** (i + job)] * 1_000 for i in range(45)]
            labellings = [{"kind": "explicit", "values": each} for each in values]
            dataset = {"kind": "boolean", "bits": 14, "n": 10_000, "seed": job}
            body = {"dataset": dataset, "labellings": labellings, "estimator": {"kind": "ep"}}
            ids.append(http.post("/v1/estimates", json=body).raise_for_status().json()["id"])
        yield _Case(f"the list of {len(ids)} jobs of 1 MB", lambda: _get(server, "/v1/jobs?limit=500"))
        yield _Case("one of them", lambda: _get(server, f"/v1/jobs/{ids[-1]}"))
        for job_id in ids:
            http.delete(f"/v1/jobs/{job_id}")
        labellings = [{"kind": "random", "seed": seed} for seed in range(60 if quick else 2_000)]
        body = {"dataset": {"kind": "digits", "n": 100}, "labellings": labellings, "seed": 1}
        job_id = http.post("/v1/estimates", json=body).raise_for_status().json()["id"]
        with _subscribed(server, job_id):
            yield _Case(f"{_SUBSCRIBERS} subscribers to a job", lambda: time.sleep(0.5))
        http.delete(f"/v1/jobs/{job_id}")


def _measured(server: Server, watch: _Watch, case: _Case, seconds: float) -> dict[str, Any]:
    say(case.name)
    process = server.process
    before = process.cpu_times()
    statuses: Counter[str] = Counter()
    times, side = [], []
    with watch.watching(), ThreadPoolExecutor(1) as other:
        began = time.perf_counter()
        while not times or time.perf_counter() - began < seconds:
            start = time.perf_counter()
            asked = other.submit(_timed, case.side) if case.side else None
            statuses[str(case.send())] += 1
            times.append(time.perf_counter() - start)
            if asked:
                side.append(asked.result())
    after = process.cpu_times()
    used = after.user + after.system - before.user - before.system
    latencies = watch.latencies
    return {
        "name": case.name,
        "status": ", ".join(statuses),
        "count": len(times),
        "seconds": statistics.median(times),
        "cpu": used / len(times),
        "other": max(side, default=None),
        "p50": 1e3 * statistics.median(latencies),
        "p99": 1e3 * float(np.quantile(latencies, 0.99)),
        "most": 1e3 * max(latencies),
        "peak": max(watch.resident) / 1e6,
    }


class _Watch:
    """Notes of a server, while it is attacked, its health and its memory."""

    def __init__(self, server: Server) -> None:
        command = [sys.executable, "-m", "benchmarks.probe", str(server.port)]
        self._probe = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._server = server
        self.latencies: list[float] = []
        self.resident: list[int] = []

    def close(self) -> None:
        """End the process that asks."""
        self._tell("")
        self._probe.wait(10)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While something happens."""
        stop, process = threading.Event(), self._server.process
        self.resident = [process.memory_info().rss]

        def look() -> None:
            while not stop.wait(0.02):
                self.resident.append(process.memory_info().rss)

        thread = threading.Thread(target=look)
        thread.start()
        self._tell("begin\n")
        try:
            yield
        finally:
            self._tell("end\n")
            assert self._probe.stdout is not None
            self.latencies = [float(each) for each in self._probe.stdout.readline().split()]
            stop.set()
            thread.join()

    def _tell(self, what: str) -> None:
        assert self._probe.stdin is not None
        if what:
            self._probe.stdin.write(what)
            self._probe.stdin.flush()
        else:
            self._probe.stdin.close()


def _posting(
    server: Server, path: str, body: str, headers: dict[str, str] = _JSON, *, token: bool = True
) -> Callable[[], Any]:
    content = body.encode()

    def post() -> Any:
        with server.http() as http:
            given = headers if token else {**headers, "Authorization": ""}
            answer = http.post(path, content=content, headers=given, timeout=600)
            assert len(answer.content) < 10**6 or answer.is_success
            code = answer.json().get("code", "") if "json" in answer.headers.get("content-type", "") else ""
            return f"{answer.status_code} {code}".strip()

    return post


def _get(server: Server, path: str) -> int:
    with server.http() as http:
        return http.get(path).status_code


def _twice(send: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(2) as pool:
        return " / ".join(sorted({pool.submit(send).result() for _ in range(2)}))


def _timed(call: Callable[[], Any] | None) -> float:
    time.sleep(0.2)
    began = time.perf_counter()
    if call:
        call()
    return time.perf_counter() - began


def _connect(server: Server, start: bytes) -> str:
    """Many connections of which nothing comes; how many of them the service ended by itself."""
    wires = []
    for _ in range(2_000):
        wire = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        wire.sendall(start)
        wires.append(wire)
    ended = 0
    for wire in wires:
        try:
            ended += wire.recv(1) == b""
        except OSError:
            ended += 1
        wire.close()
    return f"{ended:,} ended"


@contextmanager
def _subscribed(server: Server, job_id: str) -> Iterator[None]:
    request = f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    wires = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(_SUBSCRIBERS)]
    for wire in wires:
        wire.sendall(request.encode())
    for wire in wires:
        wire.recv(2**20)
        wire.settimeout(0)
    stop = threading.Event()

    def drain() -> None:
        while not stop.wait(0.2):
            for wire in wires:
                with suppress(OSError):  # nothing is there
                    wire.recv(2**20)

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for wire in wires:
            wire.close()


def _body(dataset: Any, labellings: Any, **fields: Any) -> str:
    return json.dumps({"dataset": dataset, "labellings": labellings, **fields})


def _table(rows: list[dict[str, Any]]) -> Table:
    slow, large = max(row["p99"] for row in rows), max(row["peak"] for row in rows)
    return Table(
        "The service under attack",
        [
            Column("request", "name"),
            Column("answer", "status"),
            Column("times", "count"),
            Column("s each", "seconds", ".2f"),
            Column("processor of the API, s each", "cpu", ".2f"),
            Column("another submission, at most s", "other", ".2f"),
            Column("/healthz, median ms", "p50", ".1f"),
            Column("99 % ms", "p99", ".1f"),
            Column("at most ms", "most", ".0f"),
            Column("peak of the API, MB", "peak", ".0f"),
        ],
        rows,
        [
            f"/healthz asked {HERTZ} times a second; its time counts from when it was due",
            f"bodies of 8 MiB or of {_VALUES:,} values; what is right is priced (dry_run)",
            f"largest 99th percentile {slow:.0f} ms ({_GOALS['p99, ms']} is the goal), largest peak {large:.0f} MB "
            f"({_GOALS['peak, MB']} is the goal)",
        ],
    )
