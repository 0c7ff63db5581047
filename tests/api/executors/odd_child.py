"""A child whose rows say how it misbehaves. It loads nothing that computes, and so starts quickly."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from api.executors import child
from nngp_prior.errors import DataUnavailable, InvalidInput, ResourceLimit
from nngp_prior.numerics.threads import cores
from nngp_prior.progress import Progress, ProgressCallback
from nngp_prior.schemas.base import Specification

if TYPE_CHECKING:
    from nngp_prior.prior.request_runner import RequestRunner


class Odd(Specification):
    rows: tuple[str, ...]
    path: str = ""


def _full_disk(request: Odd) -> None:
    try:
        raise OSError(28, "No space left on device")
    except OSError:
        raise InvalidInput("NNGP_HOME", "cannot be used", "Free some.") from None


def _raise(error: BaseException) -> None:
    raise error


class XlaRuntimeError(RuntimeError):
    """As JAX's is called."""


def _print(request: Odd) -> None:
    os.write(1, b"noise on descriptor 1\n")
    print('{"row": [0, {}]}', flush=True)
    assert not sys.stdin.read()


def _grandchild(request: Odd) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(request.path).write_text(str(sleeper.pid))
    os.abort()


def _gobble(request: Odd) -> None:
    """Two gigabytes within a second or two."""
    held = []
    while len(held) < 100:
        held.append(bytearray(b"x") * (20 * 2**20))
        time.sleep(0.02)


DEEDS: dict[str, Any] = {
    "fine": lambda request: None,
    "abort": lambda request: os.abort(),
    "segfault": lambda request: ctypes.string_at(0),
    "exit": lambda request: os._exit(3),
    "leave": lambda request: sys.exit("a bug"),
    "sleep": lambda request: time.sleep(600),
    "nap": lambda request: time.sleep(0.5),
    # Python's lock is held all the time: no other thread of the child runs.
    "hang": lambda request: ctypes.PyDLL(None).sleep(600),
    "work": lambda request: sum(range(10**12)),
    "stop": lambda request: os.kill(os.getpid(), signal.SIGSTOP),
    "print": _print,
    "gobble": _gobble,
    "grandchild": _grandchild,
    "full disk": _full_disk,
    "invalid": lambda request: _raise(InvalidInput("dataset.n", "got 0", "Pass more.")),
    "missing": lambda request: _raise(DataUnavailable("no MNIST")),
    "large": lambda request: _raise(ResourceLimit("n: at most 7")),
    "memory": lambda request: _raise(MemoryError("no")),
    "memory of jax": lambda request: _raise(XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 7 bytes.")),
    "defect": lambda request: _raise(ZeroDivisionError("a bug")),
}


class Misbehave:
    kind = "odd"
    request = Odd

    def run(
        self, request: Odd, rows: Sequence[int], runner: RequestRunner, progress: ProgressCallback
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for done, row in enumerate(rows, start=1):
            progress(Progress("odd rows", done, len(rows)))
            DEEDS[request.rows[row]](request)
            pid = os.getpid()
            yield row, {"row": row, "pid": pid, "cores": cores(), "nice": os.getpriority(os.PRIO_PROCESS, pid)}


class _Runner:
    """Keeps nothing that could be forgotten."""

    def forget(self) -> None:
        pass


if __name__ == "__main__":
    child.serve(lambda: ({"odd": Misbehave()}, cast("RequestRunner", _Runner())))
