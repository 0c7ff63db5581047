"""Executor with warm child processes on this machine, one per slot.

A child outlives its tasks, so that nothing is imported, compiled or factored twice. After an error that may have
damaged it, or a cancelled task, it is killed with SIGKILL, with all processes that it has started, and replaced at
once. A child reports its results row by row; if it dies, only the current row is lost.
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

from api.executors.base import Cancelled, Capacity, Done, Failed, Listener, Lost, Outcome, PutBack, Task
from api.executors.memory import WORKER_BYTES, Usage, to_be_ended
from api.problems import Problem
from nngp_prior.numerics.threads import cores
from nngp_prior.schemas.pieces import encode

_START_SECONDS = 120.0  # for a child's imports
_LOOK = 0.1  # seconds between two readings of the children's memory and processor time
_IDLE_SECONDS = 300.0  # seconds without processor time after which a busy child counts as hung
_BUSY = 0.1  # seconds of processor time that count as activity
_BETWEEN = 0.2  # seconds between two calls of ``Listener.rows``
# Signals that a supervisor such as systemd sends to all processes of the service, perhaps first to the children.
_POLITE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_log = structlog.get_logger(__name__)


class LocalExecutor:
    """Supervisor of child processes; thread-safe.

    Args:
        slots: number of children.
        memory_limit: resident bytes of all children together, whatever was planned; default: no limit.
        home: folder of kernels, and of JAX's compilation cache.
        blobs: folder of uploaded arrays.
        task_seconds: time limit of a task, seconds.
        environment: additional environment variables of the children.
        module: module that a child runs.
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
        memory = sys.maxsize if memory_limit is None else memory_limit - slots * WORKER_BYTES
        self._capacity = Capacity.of_one_machine(slots, cores(), memory)
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
            # The same modules as in this process, and none from its working directory.
            "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path),
            **(environment or {}),
        }
        self._lock = threading.Lock()
        self._closed = False
        self._running: dict[int, _Child] = {}
        self._idle: list[_Child] = []  # used last in, first out: the last child has the warmest caches
        self._idle += [self._start() for _ in range(slots)]
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="children", daemon=True)
        self._watcher.start()

    def capacity(self) -> Capacity:
        """See :meth:`Executor.capacity`."""
        return self._capacity

    def problem(self) -> str | None:
        """See :meth:`Executor.problem`."""
        if not self.hung():
            return None
        return "A process that computes has used no processor time for minutes. Dismiss its job, or end the process."

    def run(self, task: Task, listener: Listener) -> Outcome:
        """See :meth:`Executor.run`."""
        try:
            child = self._take(task)
        except OSError as error:
            return PutBack(f"no process could be started ({error})")
        if child is None:
            return Cancelled()
        healthy = False
        try:
            outcome = child.compute(task, listener, min(self._task_seconds, task.seconds or math.inf))
            healthy = child.healthy
        finally:  # also if the listener raised
            self._give_back(task.fence, child, healthy)
        return Cancelled() if child.cancelled and not isinstance(outcome, Done) else outcome

    def cancel(self, fence: int) -> None:
        """See :meth:`Executor.cancel`."""
        with self._lock:
            child = self._running.get(fence)
            if child is not None:
                child.cancelled = True
        if child is not None:
            child.kill()

    def close(self) -> None:
        """See :meth:`Executor.close`."""
        self._closing.set()
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            running = list(self._running.values())
            for child in running:
                child.cancelled = True
        for child in running:  # closed by the threads that run them
            child.kill()
        for child in idle:
            child.close()

    def hung(self) -> bool:
        """True if a task hangs: its process has used no processor time for minutes."""
        since = time.monotonic() - _IDLE_SECONDS
        with self._lock:
            return any(child.busy_at < since for child in self._running.values())

    def pids(self) -> list[int]:
        """Process ids of the children."""
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
        """Return a child for a task; None if the executor is closed."""
        with self._lock:
            if self._closed:
                return None
            child = self._idle.pop() if self._idle else self._start()
            if child.has_died():  # while idle: not caused by the task
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
                with contextlib.suppress(OSError):  # retried by the next task
                    self._idle.append(self._start())
        child.close()


class _Child:
    """Child process and its channel. One thread at a time runs a task in it; any thread may kill it."""

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(theirs.fileno())],
                stdin=subprocess.PIPE,  # never written to: its end of file tells the child that this process has ended
                stdout=2,  # stderr: output of libraries is not a message
                pass_fds=(theirs.fileno(),),
                env=environment,
                start_new_session=True,
            )
            self._channel = Connection(ours.detach())
        self._killing = threading.Lock()
        self._ready = False
        self.pid = self._process.pid
        self.usage = Usage(self.pid)
        self.busy_at, self._seconds = time.monotonic(), 0.0  # time of the last processor use, and total processor time
        self._ended_for: Outcome | None = None  # outcome of a task ended from outside
        self.cancelled = False  # by a caller
        self.healthy = True

    def has_died(self) -> bool:
        """True if an idle child has died: a ready child sends nothing, so input can only be the end of file."""
        return self._ready and self._channel.poll()

    def compute(self, task: Task, listener: Listener, seconds: float) -> Outcome:
        """Run a task and forward its rows and progress."""
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
        """Update the processor time of the process."""
        with contextlib.suppress(psutil.Error):
            used = psutil.Process(self.pid).cpu_times()
            if used.user + used.system > self._seconds + _BUSY:
                self._seconds, self.busy_at = used.user + used.system, time.monotonic()

    def kill(self) -> None:
        """Kill the process and all processes that it has started."""
        with self._killing:
            if self._process.returncode is None:
                self._kill_group()
                self._process.wait()

    def end_for_memory(self, limit: int) -> None:
        """Kill it because the workers exceed the memory limit.

        Args:
            limit: memory limit, bytes.
        """
        if self.usage.planned is None or self.usage.excess <= 0:  # idle, or others left no memory
            self._ended_for = PutBack("memory is short")
        else:
            self._ended_for = Lost(_too_much(self.usage, limit), "memory-limit")
        self._kill_group()

    def close(self) -> None:
        """Kill it and release its resources."""
        self.kill()
        self._channel.close()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _listen(self, rows: _Rows, listener: Listener, deadline: float) -> Outcome | None:
        """Return the outcome of the task; None if it did not end before the deadline."""
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
        """Return the next message; None if there is none in time."""
        try:
            return json.loads(self._channel.recv_bytes()) if self._channel.poll(seconds) else None
        except (EOFError, OSError):
            raise _Gone from None

    def _ended(self) -> tuple[int | None, str]:
        """Return how a process that closed the channel ended: its exit status, if any, and a description."""
        with self._killing:
            try:
                status = self._process.wait(1.0)
            except subprocess.TimeoutExpired:
                return None, "closed its channel"
            self._kill_group()  # processes that it has started
        words = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return status, words


class _Gone(Exception):
    """Raised if the other end of the channel is closed."""


class _Rows:
    """Buffer of rows for the listener, flushed at once or 0.2 s after the last flush."""

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
