"""Units of work in a Dask worker: children of the worker compute them, as on the service's own machine.

Dask only gives units to workers. It cannot stop a running one, so the worker looks whether each is still wanted: if the
service releases it, or has ended, or the scheduler is lost, the child is killed.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from distributed import Reschedule, Worker, get_worker

from api.blobs import Blobs
from api.executors.base import Cancelled, Failed, PutBack
from api.executors.dask_messages import FENCE, MESSAGE, Unit, encoded_outcome
from api.executors.local import LocalExecutor
from api.files import store_id
from api.problems import Problem
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.pieces import encode
from nngp_prior.schemas.requests import ExperimentRequest

_BETWEEN = 1.0  # seconds between two progress messages of a unit
_units: Units | None = None


def start(executor: LocalExecutor, home: Path) -> Units:
    """Have this process compute units with an executor.

    Args:
        executor: executor of tasks.
        home: folder of kernels and uploaded arrays.

    Returns:
        the units.
    """
    global _units
    _units = Units(executor, home)
    return _units


def compute(unit: str) -> None:
    """Compute a unit: a task of Dask, called by the name of this module.

    Args:
        unit: a :class:`Unit` as JSON.

    Raises:
        RuntimeError: if this is not a worker of :mod:`api.worker`.
    """
    if _units is None:
        raise RuntimeError("this Dask worker was not started by nngp-prior worker")
    _units.compute(Unit.decoded(unit))


class Units:
    """Units that a worker computes.

    Args:
        executor: executor of tasks.
        home: folder of kernels and uploaded arrays.

    Attributes:
        draining: True once no further units are begun; Dask gives waiting units to other workers.
    """

    def __init__(self, executor: LocalExecutor, home: Path) -> None:
        self._executor, self._home = executor, home
        self._numbers = itertools.count()  # fences of several services may be equal
        self._running: dict[Any, int] = {}  # numbers by Dask's keys
        self._ended = False
        self.draining = False

    def __len__(self) -> int:
        """Return the number of running units."""
        return len(self._running)

    def compute(self, unit: Unit) -> None:
        """Compute a unit; its rows, progress and outcome are sent as events.

        Args:
            unit: the unit.

        Raises:
            Reschedule: if no further units are begun.
        """
        worker = get_worker()
        if self.draining:
            raise Reschedule
        teller = _Teller(worker, unit)
        teller.tell({"begun": True})
        number = next(self._numbers)
        key = worker.get_current_task()
        self._running[key] = number
        try:
            outcome = self._unreachable(unit) or self._executor.run(replace(unit.task, fence=number), teller)
        finally:
            del self._running[key]
        if isinstance(outcome, Cancelled) and self._ended:
            outcome = PutBack(f"the worker {worker.address} was ended", lasting=False)
        teller.tell(encoded_outcome(outcome))

    def drop_unwanted(self, worker: Worker) -> None:
        """Kill the units that Dask no longer wants; call it several times a second in the worker's event loop.

        Args:
            worker: the worker.
        """
        for key, number in tuple(self._running.items()):
            task = worker.state.tasks.get(key)
            if task is None or task.state == "cancelled":
                self._executor.cancel(number)

    def drop_all(self) -> None:
        """Kill all units: without the scheduler no service can receive their results."""
        for number in tuple(self._running.values()):
            self._executor.cancel(number)

    def end(self) -> None:
        """Kill all units and put them back: this process is about to end."""
        self.draining = self._ended = True
        self._executor.close()

    def hung(self) -> bool:
        """True if a unit hangs."""
        return self._executor.hung()

    def _unreachable(self, unit: Unit) -> Failed | None:
        """Return an error if a unit needs files of the service's folder that are not in this worker's."""
        if unit.folder == store_id(self._home):
            return None
        if unit.task.kind == ExperimentRequest.work:
            return _not_shared("The tasks of a study share a folder", self._home)
        blobs = Blobs(self._home / "blobs")
        for sha256 in _hashes(unit.task.request):
            try:
                there = blobs.path(sha256).exists()
            except InvalidInput:  # the request says so better
                continue
            if not there:
                return _not_shared(f"The uploaded array {sha256} is in the service's folder", self._home)
        return None


class _Teller:
    """Listener that sends events to the service, through the scheduler, in their order."""

    def __init__(self, worker: Worker, unit: Unit) -> None:
        self._worker, self._topic, self._fence = worker, unit.topic, unit.task.fence
        self._last = -math.inf

    def tell(self, message: dict[str, Any]) -> None:
        self._worker.log_event(self._topic, {FENCE: self._fence, MESSAGE: encode(message)})

    def rows(self, rows: list[tuple[int, dict[str, Any]]]) -> None:
        self.tell({"rows": rows})

    def progress(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now >= self._last + _BETWEEN:
            self._last = now
            self.tell({"progress": [stage, done, total]})


def _hashes(value: Any) -> Iterator[str]:
    """Yield the hashes of the uploaded arrays in a request."""
    if isinstance(value, dict):
        if isinstance(value.get("sha256"), str):
            yield value["sha256"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _hashes(each)


def _not_shared(what: str, home: Path) -> Failed:
    detail = f"{what}, and a worker on another folder ({home}) cannot reach it."
    remedy = "Start the workers with the service's NNGP_HOME on a shared file system."
    return Failed(Problem(422, "data-unavailable", f"{detail} {remedy}").document())
