"""A small service that answers as the real one, and fails where a test wants it to."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import numpy as np

from nngp_prior.prior.pac_bayes import pac_bayes_bounds
from nngp_prior.schemas.results.base import row_of
from nngp_prior.schemas.results.bound import bound_row
from nngp_prior.schemas.results.estimate import Approximate, Counts, Estimate
from nngp_prior.schemas.results.posterior import GibbsError, Predictive, VoteError, posterior_row
from nngp_prior.schemas.results.sample import function_row
from nngp_prior.schemas.results.sharpness import Measurement, Report, sharpness_row

TOKEN = "secret"


def estimate(i: int, n: int = 4) -> Estimate:
    evidence = Approximate(log_p=-10.0 - i, standard_error=0.5, freedom=31)
    diagnostics = {"log_z_ep": -10.5 - i}
    return Estimate(value=-10.0 - i, stderr=0.5, n=n, method="smc", evidence=evidence, diagnostics=diagnostics)


def report(i: int) -> Report:
    return Report(
        measurements=(Measurement(measure="trace", name=f"trace_{i}", value=math.inf, stderr=0.5),),
        loss="cross-entropy",
        training_loss=0.25,
        training_error=0.0,
        gradient_norm=0.5,
        n=4,
        parameters=7,
        dtype="float64",
        seed=3,
        versions={},
    )


def row(work: str, i: int, request: dict[str, Any]) -> dict[str, Any]:
    """A result with made-up numbers."""
    if work == "estimates":
        return row_of(i, estimate(i))
    if work == "bounds":
        points = [bound_row(i, estimate(i, m), pac_bayes_bounds(estimate(i, m))) for m in request.get("sizes") or [4]]
        return {**points[-1], **({"points": points} if request.get("sizes") else {})}
    if work == "posteriors":
        predictive = Predictive(np.full(4 - request["train"], 0.75), np.full(4 - request["train"], 0.125), 31)
        errors = GibbsError(0.25, 0.125, 31), VoteError(0.5, 0.0, 1.0, 2)
        return posterior_row(i, estimate(i, request["train"]), predictive, *errors, estimate(i + 5))
    if work == "sharpness":
        return sharpness_row(i, "trace", report(i))
    counts = Counts(hits=3, draws=request.get("networks", 100_000))
    frequency = Estimate(value=counts.value(), stderr=counts.stderr(), n=4, method="sampled-networks", evidence=counts)
    function = function_row(
        1, np.array([1, 1, -1, 1]), 3, frequency, dict.fromkeys(request.get("complexities", []), 7.0)
    )
    found = {
        "draws": request.get("networks", 100_000),
        "functions": 5,
        "undecided": 1,
        "zeros": [0, 1, 0, 0],
        "seconds": 0.5,
    }
    return {"status": "ok", "message": "", **found, "top": [function]}


class FakeService:
    """What it has, what it was asked, and what it shall do instead of answering.

    ``faults`` are used up one a request, first those under ``METHOD path``, each a function of the handler.
    """

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.faults: dict[str, list[Callable[[BaseHTTPRequestHandler], None]]] = {}
        self.ready_after = 0  # looks at a job before it has ended
        self.looks: Counter[str] = Counter()
        self.events = [("accepted", {}), ("running", {}), ("rows", {"done": 1}), ("successful", {})]
        self.work = ""  # the last route that was posted to
        self.url = ""

    def count(self, method: str, part: str = "") -> int:
        return sum(asked == method and part in path for asked, path, _ in self.asked)

    def submit(self, request: dict[str, Any]) -> dict[str, Any]:
        id = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        work = self.work
        count = len(request.get("measures", [0, 1])) if work == "sharpness" else int(work == "samples")
        for labelling in request.get("labellings", []):
            blob = self.blobs.get(labelling.get("sha256", ""))
            count += 1 if blob is None else int(blob.split(b"'shape': (")[1].split(b",")[0])
        self.rows[id] = [row(work, i, request) for i in range(count)]
        return self.jobs.setdefault(id, self.document(id, "running", count, work))

    def document(self, id: str, state: str, count: int, work: str = "estimates") -> dict[str, Any]:
        done = count if state == "successful" else 0
        progress = {"current": done, "target": count, "unit": "labellings", "stage": None}
        return {
            "id": id,
            "kind": work,
            "state": state,
            "progress": progress,
            "attempt": 1,
            "losses": 0,
            "created": "2026-11-22T10:00:00Z",
            "started": None,
            "finished": None,
            "error": None,
            "links": [{"rel": "self", "href": f"/v1/jobs/{id}"}],
        }

    def look(self, id: str) -> dict[str, Any]:
        self.looks[id] += 1
        job = self.jobs[id]
        if job["state"] == "running" and self.looks[id] > self.ready_after:
            job = self.jobs[id] = self.document(id, "successful", job["progress"]["target"], job["kind"])
        return job


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise a body waits 40 ms for the acknowledgement of its header
    service: FakeService

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, body: Any = None, kind: str = "application/json", **headers: str) -> None:
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def problem(self, status: int, code: str, detail: str = "no", errors: Any = (), **headers: str) -> None:
        body = {"status": status, "code": code, "detail": detail, "errors": list(errors), "retryable": status == 429}
        self.answer(status, body, "application/problem+json", **headers)

    def pieces(self, kind: str, *pieces: str, whole: bool = True) -> None:
        """A stream; one that is not whole ends with the connection."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            content = piece.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        if whole:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.drop()

    def drop(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(2)

    def handle_one(self) -> None:
        service = self.service
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        service.asked.append((self.command, self.path, headers))
        faults = service.faults.get(f"{self.command} {path}") or service.faults.get(self.command) or []
        if faults:
            faults.pop(0)(self)
            return
        if headers.get("authorization") != f"Bearer {TOKEN}":
            self.problem(401, "unauthorized", "Give the token.")
            return
        match self.command, path.strip("/").split("/")[1:]:
            case ("HEAD", ["blobs", sha]):
                self.answer(200 if sha in service.blobs else 404)
            case ("PUT", ["blobs", sha]) if hashlib.sha256(body).hexdigest() == sha:
                service.blobs[sha] = body
                self.answer(201, {"sha256": sha})
            case ("POST", ["estimates" | "bounds" | "posteriors" | "samples" | "sharpness"]) if query == "dry_run=true":
                self.answer(200, {"bytes": 1, "seconds": 2.0, "cached": False, "rows": 3, "chunks": 1})
            case ("POST", ["datasets"]):
                chosen = json.loads(body).get("classes")
                self.answer(201, {"n": 4, "input_shape": [8, 8], "classes": chosen or list(range(10))})
            case ("POST", ["estimates" | "bounds" | "posteriors" | "samples" | "sharpness" as work]):
                service.work = work
                job = service.submit(json.loads(body))
                job |= {key: value[0] for key, value in parse_qs(query).items() if key == "name"}
                self.answer(201, job)
            case ("GET", ["jobs"]):
                self.list(query)
            case ("PATCH", ["jobs", id]) if id in service.jobs:
                edit = json.loads(body)
                service.jobs[id] |= {"name": edit.get("name"), "tags": edit["add_tags"]}
                self.answer(200, service.jobs[id])
            case ("GET" | "DELETE", ["jobs", id, *rest]) if id in service.jobs:
                self.job(id, rest, headers)
            case _:
                self.problem(404, "not-found", f"{self.path}: there is none.")

    def list(self, query: str) -> None:
        """Pages of two."""
        start = int(query.partition("cursor=")[2] or 0)
        found = [job for job in self.service.jobs.values() if f"state={job['state']}" in query or "state=" not in query]
        links = (
            [{"rel": "next", "href": f"http://elsewhere/v1/jobs?cursor={start + 2}"}] if start + 2 < len(found) else []
        )
        self.answer(200, {"jobs": found[start : start + 2], "links": links})

    def job(self, id: str, rest: list[str], headers: dict[str, str]) -> None:
        service = self.service
        match self.command, rest:
            case ("DELETE", []):
                job = service.jobs[id] = {**service.jobs[id], "state": "dismissed"}
                self.answer(202, job)
            case ("GET", []):
                job = service.look(id)
                if headers.get("if-none-match") == f'"{job["state"]}"':
                    self.answer(304, ETag=f'"{job["state"]}"')
                else:
                    self.answer(200, job, ETag=f'"{job["state"]}"')
            case ("GET", ["results"]):
                self.results(id, headers)
            case ("GET", ["events"]):
                last = int(headers.get("last-event-id", 0))
                sent = [
                    f"id: {i}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"
                    for i, (kind, data) in enumerate(service.events, start=1)
                    if i > last
                ]
                self.pieces("text/event-stream", ": hello\n\n", *sent)

    def results(self, id: str, headers: dict[str, str]) -> None:
        job, rows = self.service.jobs[id], self.service.rows[id]
        match job["state"]:
            case "running":
                self.problem(409, "result-not-ready", Retry_After="1")
            case "dismissed":
                self.problem(410, "dismissed", "It was dismissed. Post it again.")
            case "failed":
                self.problem(job["error"]["status"], job["error"]["code"], job["error"]["detail"])
            case _ if headers["accept"] == "application/x-ndjson":
                self.pieces("application/x-ndjson", *(json.dumps(each) + "\n" for each in rows))
            case _:
                more = {} if job["kind"] == "estimates" else {"versions": {}, "train": 2}
                if job["kind"] == "sharpness":
                    more |= {"parameters": 7, "loss": "cross-entropy", "dtype": "float64", "seed": 3}
                self.answer(200, {"units": "nats", "n": 4, **more, "results": rows})

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_one  # noqa: N815


@contextmanager
def fake_service(port: int = 0) -> Iterator[FakeService]:
    service = FakeService()
    handler = type("Own", (Handler,), {"service": service})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def refuse(status: int, code: str, detail: str = "no", errors: Any = (), **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.problem(status, code, detail, errors, **headers)


def hang_up(handler: Handler) -> None:
    handler.drop()
