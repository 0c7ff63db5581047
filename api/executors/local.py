"""Tasks in warm child processes on this machine, one a slot.

A child outlives its tasks, so that nothing is imported, compiled or factored twice, but not an error that may have
left it damaged, nor a cancelled task: it is killed with SIGKILL, with all processes that it has started, and the next
one is started at once. What a child computes leaves it row by row; if it dies, only the row it was at is lost.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import structlog

from api.executors.base import Cancelled, Done, Failed, Listener, Lost, Outcome, PutBack, Task
from api.executors.memory import WORKER_BYTES, Usage, to_be_ended
from api.problems import Problem
from nngp_prior.schemas.pieces import encode

_START_SECONDS = 120.0  # until a child has imported all it needs
_LOOK = 0.1  # seconds between two looks at the children's memory and processor time
_IDLE_SECONDS = 300.0  # without processor time, after which a child with a task is held to hang
_BUSY = 0.1  # seconds of processor time that are more than nothing
_BETWEEN = 0.2  # seconds between two calls of a listener with rows, where they are quick
# What whoever ends the service sends to all its processes, as systemd does, perhaps before the server knows of it.
_POLITE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_log = structlog.get_logger(__name__)


class LocalExecutor:
    """Supervises children; its methods may be called from any thread.

    Args:
        slots: number of children.
        memory_limit: resident bytes that they may take together, whatever was planned; no limit when absent.
        home: the folder of kernels, and of what JAX has compiled.
        blobs: the folder of uploaded arrays.
        task_seconds: after which a task is ended.
        environment: variables that only the children have.
        module: what a child runs.
    """

    def __init__(
        self,
        slots: int,
        *,
        home: Path,
        blobs: Path,
        task_seconds: float,
        memory_limit: int | None = None,
        environment: Mapping[str, str] | None = None,
        module: str = "api.executors.child",
    ) -> None:
        self.slots, self.resident = slots, slots * WORKER_BYTES
        self._memory_limit = memory_limit
        self._task_seconds, self._module = task_seconds, module
        compiled = home / "xla"
        compiled.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._environment = {
            **os.environ,
            "NNGP_HOME": str(home),
            "NNGP_BLOBS": str(blobs),
            "JAX_COMPILATION_CACHE_DIR": str(compiled),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
            # The same modules as here, and none from the folder that the service happens to be started in.
            "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path),
            **(environment or {}),
        }
        self._lock = threading.Lock()
        self._closed = False
        self._running: dict[int, _Child] = {}
        self._idle: list[_Child] = []  # the last one used is taken first: its caches are the warmest
        self._idle += [self._start() for _ in range(slots)]
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="children", daemon=True)
        self._watcher.start()

    def run(self, task: Task, listener: Listener) -> Outcome:
        """As the protocol says."""
        try:
            child = self._take(task)
        except OSError as error:
            return PutBack(f"no process could be started ({error})")
        if child is None:
            return Cancelled()
        healthy = False
        try:
            outcome = child.compute(task, listener, self._task_seconds)
            healthy = child.healthy
        finally:  # also where the listener failed
            self._give_back(task.fence, child, healthy)
        return Cancelled() if child.cancelled and not isinstance(outcome, Done) else outcome

    def cancel(self, fence: int) -> None:
        """As the protocol says."""
        with self._lock:
            child = self._running.get(fence)
            if child is not None:
                child.cancelled = True
        if child is not None:
            child.kill()

    def close(self) -> None:
        """As the protocol says."""
        self._closing.set()
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            running = list(self._running.values())
            for child in running:
                child.cancelled = True
        for child in running:  # those who run them close them
            child.kill()
        for child in idle:
            child.close()

    def hung(self) -> bool:
        """As the protocol says."""
        since = time.monotonic() - _IDLE_SECONDS
        with self._lock:
            return any(child.busy_at < since for child in self._running.values())

    def pids(self) -> list[int]:
        """Of the children."""
        with self._lock:
            return [child.pid for child in (*self._idle, *self._running.values())]

    def _start(self) -> _Child:
        return _Child(self._module, self._environment)

    def _watch(self) -> None:
        while not self._closing.wait(_LOOK):
            with self._lock:
                if self._running:
                    self._keep_to_limit()
                for child in self._running.values():
                    child.look_at_time()

    def _keep_to_limit(self) -> None:
        if self._memory_limit is None:
            return
        children = {child.pid: child for child in (*self._idle, *self._running.values())}
        found = to_be_ended([child.usage for child in children.values()], self._memory_limit)
        if found is not None:
            children[found.pid].end_for_memory(self._memory_limit)

    def _take(self, task: Task) -> _Child | None:
        """A child for a task; None when the executor is closed."""
        with self._lock:
            if self._closed:
                return None
            child = self._idle.pop() if self._idle else self._start()
            if child.has_died():  # while it was idle: not the task's doing
                child.close()
                child = self._start()
            child.usage.begin(task.bytes)
            child.busy_at = time.monotonic()
            self._running[task.fence] = child
            return child

    def _give_back(self, fence: int, child: _Child, healthy: bool) -> None:
        with self._lock:
            del self._running[fence]
            if healthy and not child.cancelled:
                child.usage.planned = None
                self._idle.append(child)
                return
            if not self._closed:
                with contextlib.suppress(OSError):  # the next task tries again
                    self._idle.append(self._start())
        child.close()


class _Child:
    """A process and the channel to it. One thread at a time has it compute; any may kill it."""

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(theirs.fileno())],
                stdin=subprocess.PIPE,  # nothing is ever written to it: its end tells the child of ours
                stdout=2,  # what libraries print is no message
                pass_fds=(theirs.fileno(),),
                env=environment,
                start_new_session=True,
            )
            self._channel = Connection(ours.detach())
        self._killing = threading.Lock()
        self._ready = False
        self.pid = self._process.pid
        self.usage = Usage(self.pid)
        self.busy_at, self._seconds = time.monotonic(), 0.0  # when it last used the processor, and how much in all
        self._ended_for: Outcome | None = None  # the outcome of a task that was ended from outside
        self.cancelled = False  # by somebody
        self.healthy = True

    def has_died(self) -> bool:
        """Whether an idle child is no more: nothing but its end can come from one that is ready."""
        return self._ready and self._channel.poll()

    def compute(self, task: Task, listener: Listener, seconds: float) -> Outcome:
        """Have a task computed, and pass on what comes of it."""
        rows = _Rows(listener)
        try:
            if not self._ready:
                if self._receive(_START_SECONDS) is None:
                    self.healthy = False
                    return PutBack(f"a worker did not start within {_START_SECONDS:.0f} s")
                self._ready = True
            self._send(asdict(task))
            outcome = self._listen(rows, listener, time.monotonic() + seconds)
        except _Gone:
            self.healthy = False
            status, ended = self._ended()
            if self._ended_for is not None:
                outcome = self._ended_for
            elif not self._ready:
                outcome = PutBack(f"a worker {ended} as it started")
            elif status is not None and -status in _POLITE:
                outcome = PutBack(f"a worker {ended}")
            else:
                outcome = Lost(f"the worker {ended}")
        rows.tell()
        if outcome is None:
            self.healthy = False
            return Failed(_out_of_time(seconds))
        return outcome

    def look_at_time(self) -> None:
        """Read the processor time of the process."""
        with contextlib.suppress(psutil.Error):
            used = psutil.Process(self.pid).cpu_times()
            if used.user + used.system > self._seconds + _BUSY:
                self._seconds, self.busy_at = used.user + used.system, time.monotonic()

    def kill(self) -> None:
        """End the process and those that it has started."""
        with self._killing:
            if self._process.returncode is None:
                self._kill_group()
                self._process.wait()

    def end_for_memory(self, limit: int) -> None:
        """Kill it, since the workers take more memory than they may.

        Args:
            limit: bytes.
        """
        if self.usage.planned is None or self.usage.excess <= 0:  # an idle one, or others left it no room
            self._ended_for = PutBack("memory is short")
        else:
            self._ended_for = Lost(_too_much(self.usage, limit), "memory-limit")
        self._kill_group()

    def close(self) -> None:
        """Kill it, and let go of all that belongs to it."""
        self.kill()
        self._channel.close()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _listen(self, rows: _Rows, listener: Listener, deadline: float) -> Outcome | None:
        """How the task ended; None where it has not in time."""
        while (now := time.monotonic()) < deadline:
            if rows.due <= now:
                rows.tell()
                continue
            message = self._receive(min(deadline, rows.due) - now)
            match message:
                case {"row": [place, result]}:
                    rows.add(place, result)
                case {"progress": [stage, done, total]}:
                    listener.progress(stage, done, total)
                case {"done": _}:
                    return Done()
                case {"failed": problem, **more}:
                    if "traceback" in more:
                        self.healthy = False
                    return Failed(problem, more.get("traceback", ""))
                case {"put_back": reason}:
                    return PutBack(reason)
                case {"lost": reason}:
                    self.healthy = False
                    return Lost(reason)
        return None

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._channel.send_bytes(encode(message).encode())
        except OSError:
            raise _Gone from None

    def _receive(self, seconds: float) -> dict[str, Any] | None:
        """The next message; None where there is none in time."""
        try:
            return json.loads(self._channel.recv_bytes()) if self._channel.poll(seconds) else None
        except (EOFError, OSError):
            raise _Gone from None

    def _ended(self) -> tuple[int | None, str]:
        """How a process ended that closed the channel: its status, if it has one, and in words."""
        with self._killing:
            try:
                status = self._process.wait(1.0)
            except subprocess.TimeoutExpired:
                return None, "closed its channel"
            self._kill_group()  # what it has started
        words = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return status, words


class _Gone(Exception):
    """There is nobody at the other end of the channel."""


class _Rows:
    """Rows that the listener has not been told of yet: at once, or a fifth of a second after the ones before."""

    def __init__(self, listener: Listener) -> None:
        self._listener, self._last = listener, -math.inf
        self._waiting: list[tuple[int, dict[str, Any]]] = []
        self.due = math.inf

    def add(self, place: int, result: dict[str, Any]) -> None:
        self._waiting.append((place, result))
        self.due = self._last + _BETWEEN

    def tell(self) -> None:
        if self._waiting:
            self._listener.rows(self._waiting)
            self._waiting, self._last, self.due = [], time.monotonic(), math.inf


def _too_much(usage: Usage, limit: int) -> str:
    taken, planned, most = (f"{bytes_ / 2**30:.2f} GiB" for bytes_ in (usage.taken, usage.planned or 0, limit))
    return (
        f"its worker took {taken} of memory where {planned} were expected, and all may take {most} together "
        "(NNGP_MEMORY_LIMIT). Raise that, or ask for fewer inputs, classes, particles or draws"
    )


def _out_of_time(seconds: float) -> dict[str, Any]:
    detail = f"A part of this job took more than {seconds:,.0f} s. Raise NNGP_TASK_SECONDS, or ask for less at once."
    return Problem(422, "time-limit", f"{detail} Rows that are finished are kept (?partial=true).").document()
