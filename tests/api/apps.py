"""An application in process, and bodies to send to it."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from api.app import create_app
from api.blobs import Blobs
from api.executors.base import Cancelled, Capacity, Done, Failed, Listener, Outcome, Task
from api.problems import problem_of
from api.settings import ServerSettings
from api.work import WORK
from nngp_prior.errors import NngpPriorError
from nngp_prior.kernels.cache import KernelCache
from nngp_prior.numerics.threads import cores
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.progress import ignore

TOKEN = "correct-horse-battery-staple"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
WAIT = {"Prefer": "wait=30"}
PARITY = {"dataset": {"kind": "digits", "n": 12}, "labellings": [{"kind": "parity"}]}


def settings(home: Path, **fields: Any) -> ServerSettings:
    return ServerSettings(**{"home": home, "token": TOKEN, "min_free_disk": 0, **fields})


class InProcess:
    """Runs tasks in the thread that asks for it: no process has to start."""

    memory = 2**34

    def __init__(self, home: Path, blobs: Callable[[str], np.ndarray] | None = None) -> None:
        self._runner = RequestRunner(
            KernelCache(home / "kernels", 10**9), blobs or Blobs(home / "blobs").open, studies=home / "studies"
        )
        self.go_on = threading.Event()  # cleared by tests that want jobs to stay as they are
        self.go_on.set()
        self._ended = False

    def run(self, task: Task, listener: Listener) -> Outcome:
        while not self.go_on.wait(0.01):
            if self._ended:
                return Cancelled()
        work = WORK[task.kind]
        try:
            request = work.request.model_validate(task.request)
            for row in work.run(request, task.rows, self._runner, ignore):
                listener.rows([row])
        except NngpPriorError as error:
            return Failed(problem_of(error).document())
        return Done()

    def cancel(self, fence: int) -> None:
        self._ended = True

    def capacity(self) -> Capacity:
        return Capacity.of_one_machine(1, cores(), self.memory)

    def problem(self) -> str | None:
        return None

    def close(self) -> None:
        self._ended = True


@contextmanager
def client(home: Path, executor: InProcess | None = None, **fields: Any) -> Iterator[TestClient]:
    executor = executor or InProcess(home)
    executor.memory = fields.get("memory_limit", executor.memory)
    app = create_app(settings(home, **fields), executor)
    with TestClient(app, base_url="http://localhost", headers=BEARER) as served:
        yield served


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def header(text: str, version: bytes = b"\x01\x00") -> bytes:
    size = 2 if version == b"\x01\x00" else 4
    return b"\x93NUMPY" + version + len(text).to_bytes(size, "little") + text.encode()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def problem(response: Any, status: int, code: str) -> dict[str, Any]:
    """The problem that an answer is, which must be this one."""
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert (response.status_code, document["status"], document["code"]) == (status, status, code), document
    assert document["request_id"] == response.headers["x-request-id"]
    assert document["title"]
    assert document["detail"].endswith(".")
    return document


def request(seed: int, *labellings: dict[str, Any]) -> dict[str, Any]:
    """A small job of estimates, another one for each seed; parity when no labellings are given."""
    return {**PARITY, **({"labellings": labellings} if labellings else {}), "seed": seed}
