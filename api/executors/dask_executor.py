"""Executor that gives tasks to the workers of a Dask scheduler, which compute them as this machine would.

Dask only chooses a worker. Rows, progress and the outcome come back as events of the scheduler, in their order. Only
connections to the scheduler are needed: the service and the workers do not reach each other.
"""

from __future__ import annotations

import json
import math
import queue
import threading
import time
import uuid
from dataclasses import replace
from typing import Any

from distributed import Future
from distributed.scheduler import KilledWorker

from api.executors.base import Cancelled, Capacity, Failed, Listener, Lost, Outcome, PutBack, Task
from api.executors.dask_cluster import Cluster
from api.executors.dask_messages import PREFIX, Unit, decoded_outcome, log_through_root, require_address
from api.problems import internal_error
from nngp_prior.numerics.threads import cores

_SILENCE = 30.0  # seconds without a heartbeat after which a worker counts as lost
_LOOK = 0.5  # seconds between two looks at a unit's worker
_LAST_WORDS = 5.0  # seconds after the end of Dask's task within which the outcome has to arrive
_UNLIMITED = 2**62


class DaskExecutor:
    """Executor of tasks on Dask workers that ``nngp-prior worker`` started; thread-safe.

    Dask must not compute a task again: a second start of one means that its first worker was lost, which the caller has
    to know.

    Args:
        address: address of the scheduler; it need not be there yet.
        task_seconds: time limit of a task, seconds.
        memory_limit: bytes that a task may take as long as no worker is there; default: no limit.
        folder: id of the service's store.
        silence: seconds without a heartbeat after which a worker counts as lost.

    Raises:
        InvalidInput: if the address is invalid, or certificates are missing.
    """

    def __init__(
        self,
        address: str,
        *,
        task_seconds: float,
        memory_limit: int | None = None,
        folder: str = "",
        silence: float = _SILENCE,
    ) -> None:
        self._address = require_address(address)
        log_through_root()
        self._task_seconds, self._folder = task_seconds, folder
        self._name = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._closed = False
        self._running: dict[int, _Running] = {}
        nothing = Capacity(0, 0, 0, cores(), memory_limit or _UNLIMITED, may_grow=True)
        self._cluster = Cluster(address, self._on_message, capacity=nothing, silence=silence)

    def capacity(self) -> Capacity:
        """See :meth:`Executor.capacity`."""
        return self._cluster.capacity()

    def problem(self) -> str | None:
        """See :meth:`Executor.problem`."""
        return self._cluster.problem()

    def run(self, task: Task, listener: Listener) -> Outcome:
        """See :meth:`Executor.run`."""
        running = _Running()
        with self._lock:
            if self._closed:
                return Cancelled()
            self._running[task.fence] = running
        future = None
        try:
            unit = Unit(replace(task, seconds=self._task_seconds), "", self._folder)
            future = self._cluster.submit(f"{PREFIX}-{self._name}-{task.fence}", unit, task.cores)
            if future is None:
                return PutBack(f"there is no connection to the Dask scheduler {self._address}", lasting=False)
            future.add_done_callback(running.end_of_future)
            return self._follow(task, running, listener)
        finally:
            with self._lock:
                del self._running[task.fence]
            if future is not None:
                future.release()  # if it runs, its worker kills it

    def cancel(self, fence: int) -> None:
        """See :meth:`Executor.cancel`."""
        with self._lock:
            running = self._running.get(fence)
        if running is not None:
            running.cancel()

    def close(self) -> None:
        """See :meth:`Executor.close`."""
        with self._lock:
            self._closed = True
            for running in self._running.values():
                running.cancel()
        self._cluster.close()

    def _on_message(self, fence: int, worker: str, message: str) -> None:
        with self._lock:
            running = self._running.get(fence)
        if running is not None:
            running.messages.put((worker, message))

    def _follow(self, task: Task, running: _Running, listener: Listener) -> Outcome:
        """Forward what a worker says about a task, until it ends or the worker is lost."""
        worker, until = None, math.inf
        while time.monotonic() < until:
            try:
                sender, message = running.messages.get(timeout=_LOOK)
            except queue.Empty:
                sender = message = None
            match message:
                case Cancelled():
                    return message
                case Future() if message.cancelled():
                    return PutBack("the connection to the Dask scheduler was lost", lasting=False)
                case Future() if message.status == "error":
                    return _failed(message)
                case Future():
                    until = min(until, time.monotonic() + _LAST_WORDS)
                case str() if worker is not None and sender != worker:
                    return Lost(f"the worker {worker} was lost")
                case str():
                    worker = sender
                    outcome = _forwarded(json.loads(message), listener)
                    if outcome is not None:
                        return outcome
            if worker is not None and (reason := self._cluster.lost(worker)):
                return Lost(reason)
            if worker is None and self._cluster.is_too_small(task.cores, task.bytes):
                return PutBack("no worker is as large as the one that it was claimed for", lasting=False)
        return PutBack("the outcome did not arrive", lasting=False)


class _Running:
    """A task, and what was heard of it: a worker's address and message, or the end of Dask's future."""

    def __init__(self) -> None:
        self.messages: queue.SimpleQueue[tuple[str | None, str | Future | Cancelled]] = queue.SimpleQueue()

    def cancel(self) -> None:
        self.messages.put((None, Cancelled()))

    def end_of_future(self, future: Future) -> None:
        self.messages.put((None, future))


def _forwarded(message: dict[str, Any], listener: Listener) -> Outcome | None:
    """Forward a message to the listener; return the outcome if it is one."""
    match message:
        case {"rows": rows}:
            listener.rows([(place, result) for place, result in rows])
        case {"progress": [stage, done, total]}:
            listener.progress(stage, done, total)
        case {"outcome": _}:
            return decoded_outcome(message)
    return None


def _failed(future: Future) -> Outcome:
    """Return the outcome of a task that Dask could not carry out."""
    error = future.exception(timeout=_LAST_WORDS)
    if isinstance(error, KilledWorker):
        return Lost(f"several workers were lost ({error})")
    return Failed(internal_error().document(), f"{type(error).__name__}: {error}")
