"""Computing process: ``python -m api.executors.child CHANNEL``, started and fed by :mod:`api.executors.local`.

The channel is a socket for JSON messages in both directions. The server sends tasks, ``{"fence", "kind", "request",
"rows", "cores"}``; the child sends ``{"row": [index, result]}`` and ``{"progress": [stage, done, total]}``, and a last
message with the outcome: ``{"done": …}``, ``{"failed": problem}``, ``{"put_back": reason}`` or ``{"lost": reason}``.
The child's first message is ``{"ready": pid}``. Nothing is ever written to its standard input: end of file there means
that the server has ended, and ends the child.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api.problems import Problem, problem_of
from nngp_prior.errors import NngpPriorError
from nngp_prior.numerics.threads import use_cores
from nngp_prior.progress import Progress

if TYPE_CHECKING:
    from api.work import Work
    from nngp_prior.prior.request_runner import RequestRunner

BLOBS = "NNGP_BLOBS"  # environment variable: folder of uploaded arrays
_NICENESS = 5  # keeps the server responsive while all cores compute
_IDLE = 10.0  # seconds idle after which cached data are dropped
_BETWEEN = 0.2  # seconds between two progress messages
_FULL = (errno.ENOSPC, errno.EDQUOT)
_HEAVY = ("jax", "nngp_prior.kernels.analytic", "nngp_prior.probability.particle_block", "scipy.stats.qmc")


def main() -> None:
    """Run tasks of the service's kinds of work until the server ends."""
    serve(_load)


def _load() -> tuple[Mapping[str, Work[Any]], RequestRunner]:
    """Import what computes, which takes a second or two."""
    from api.blobs import Blobs
    from api.work import WORK
    from nngp_prior.prior.request_runner import RequestRunner
    from nngp_prior.settings import Settings

    for module in _HEAVY:  # so that no task waits for them
        importlib.import_module(module)
    return WORK, RequestRunner(blobs=Blobs(Path(os.environ[BLOBS])).open, unfinished=Settings().home / "samples")


def serve(load: Callable[[], tuple[Mapping[str, Work[Any]], RequestRunner]]) -> None:
    """Run tasks from the channel until the server ends.

    Args:
        load: returns the available kinds of work, and what they compute with. It is called when this process is bound
            to end with the server, however long it takes.
    """
    die_with_server()
    channel = Connection(int(sys.argv[1]))
    os.set_inheritable(channel.fileno(), False)
    os.nice(_NICENESS)
    works, runner = load()
    _send(channel, {"ready": os.getpid()})
    with contextlib.suppress(EOFError, ConnectionError):  # the server has ended
        while True:
            if not channel.poll(_IDLE):
                runner.forget()  # frees memory, and kernels that a user may want to remove
            task = json.loads(channel.recv_bytes())
            _send(channel, _ended(task, works, runner, channel))


def die_with_server() -> None:
    """Kill this process group when the other end of standard input is closed.

    A thread waits for it. On Linux, which has signals for I/O, the kernel does so too: C code that holds the
    interpreter's lock blocks the thread.
    """
    lifeline = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def watch() -> None:
        os.read(lifeline, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    if sys.platform == "linux":
        import fcntl

        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def _ended(
    task: dict[str, Any], works: Mapping[str, Work[Any]], runner: RequestRunner, channel: Connection
) -> dict[str, Any]:
    """Run a task; return its last message."""
    try:
        with use_cores(task["cores"]):
            work = works[task["kind"]]
            request = work.request.model_validate(task["request"])
            for place, result in work.run(request, task["rows"], runner, _Reporter(channel)):
                _send(channel, {"row": [place, result]})
    except (Exception, SystemExit) as error:
        if _disk_is_full(error):
            return {"put_back": f"no space left on the disk ({error})"}
        if _memory_is_short(error):
            return {"lost": f"no memory left ({error})"}
        if isinstance(error, NngpPriorError):
            return {"failed": problem_of(error).document()}
        problem = Problem(
            500, "internal-error", "The computation failed. The service's log says why, beside this job's id."
        )
        return {"failed": problem.document(), "traceback": traceback.format_exc()}
    return {"done": True}


def _disk_is_full(error: BaseException | None) -> bool:
    """True if an error is caused by a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def _memory_is_short(error: BaseException) -> bool:
    """True if memory ran out, on the host or on JAX's device."""
    of_jax = type(error).__name__ in ("XlaRuntimeError", "JaxRuntimeError") and "RESOURCE_EXHAUSTED" in str(error)
    return of_jax or (isinstance(error, MemoryError) and not isinstance(error, NngpPriorError))


class _Reporter:
    """Progress callback that limits the rate of messages."""

    def __init__(self, channel: Connection) -> None:
        self._channel, self._last = channel, 0.0
        self._lock = threading.Lock()

    def __call__(self, event: Progress) -> None:
        with self._lock:
            now = time.monotonic()
            if now - self._last < _BETWEEN:
                return
            self._last = now
        _send(self._channel, {"progress": [event.stage, event.done, event.total]})


_sending = threading.Lock()  # work may report progress from threads of its own


def _send(channel: Connection, message: dict[str, Any]) -> None:
    content = json.dumps(message, allow_nan=False, separators=(",", ":")).encode()
    with _sending:
        channel.send_bytes(content)


if __name__ == "__main__":
    main()
