"""Dispatcher of units of work: claims them from the table, runs them on an executor, and records the outcomes."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import structlog
from sqlalchemy.exc import OperationalError

from api.executors.base import Cancelled, Done, Executor, Failed, Lost, Outcome, PutBack, Task
from api.jobs.models import Lease
from api.jobs.table import JobTable
from api.logs import Seldom
from api.problems import DatabaseUnavailable, Problem
from nngp_prior.errors import ResourceLimit

T = TypeVar("T")
_TICK = 1.0  # seconds; longest delay before changes by other processes, and of the disk, are noticed
_CALM = 0.2  # seconds between a change of a running job and the check that it is still to run
_RECENT = 15.0  # seconds for which a slot is kept for other jobs after one of them used it
_STOP_SECONDS = 5.0
_LONGEST_PAUSE = 30.0
_TROUBLE = 60.0  # seconds between two log lines on an unusable table
_LATER = (ResourceLimit, OperationalError, DatabaseUnavailable)  # disk full, or no database: the write is retried
_log = structlog.get_logger(__name__)


class Dispatcher:
    """One thread per slot of the executor, and one that renews the leases.

    Args:
        table: job table.
        executor: executor of tasks.
        owner: owner of the leases.
        min_free_disk: bytes; no unit is started with less free space.
        folder: folder on the disk whose space is checked.
        lease_seconds: duration of a lease, as in the table.
    """

    def __init__(
        self,
        table: JobTable,
        executor: Executor,
        *,
        owner: str,
        min_free_disk: int,
        folder: Path,
        lease_seconds: float,
    ) -> None:
        self._table, self._executor, self._owner = table, executor, owner
        self._min_free_disk, self._folder, self._lease_seconds = min_free_disk, folder, lease_seconds
        self._stopping = threading.Event()
        self._claiming = threading.Lock()
        self._running: dict[int, _Run] = {}  # by fence
        self._served: dict[str, tuple[float, float]] = {}  # times of a job's first and latest slot
        self._news = threading.Condition()
        self._is_news = True
        self._changed = threading.Event()  # set if a running job was changed by another thread
        self._pauses, self._paused_until = 0, 0.0
        self._trouble = Seldom(_TROUBLE)
        self._threads = [threading.Thread(target=self._keep_leases, name="leases")]
        self._ignored: list[Callable[[], None]] = []

    def start(self) -> None:
        """Start claiming units."""
        self._ignored = [self._table.listen(self._on_change), self._table.listen_elsewhere(self._on_change_elsewhere)]
        self._add_slots()
        self._threads[0].start()

    def _add_slots(self) -> None:
        """Start a thread for each slot that the executor has gained."""
        while not self._stopping.is_set() and len(self._threads) <= self._executor.capacity().slots:
            thread = threading.Thread(target=self._serve, name=f"slot-{len(self._threads) - 1}")
            self._threads.append(thread)
            thread.start()

    def ready(self) -> bool:
        """True while units are being claimed."""
        started = [thread for thread in self._threads if thread.ident is not None]
        return bool(started) and not self._stopping.is_set() and all(thread.is_alive() for thread in started)

    def stop(self) -> None:
        """Stop claiming, kill the running tasks and put their units back; takes a few seconds."""
        deadline = time.monotonic() + _STOP_SECONDS
        self._stopping.set()
        self._changed.set()
        with self._news:
            self._news.notify_all()
        self._executor.close()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(deadline - time.monotonic(), 0.0))
        while self._ignored:
            self._ignored.pop()()

    def _on_change(self, job_id: str) -> None:
        if threading.current_thread() in self._threads:  # they check for further units after their own changes
            return
        if any(run.lease.job == job_id for run in tuple(self._running.values())):
            self._changed.set()
        self._tell()

    def _on_change_elsewhere(self, job_id: str | None) -> None:
        # Units that other services have queued are found at the next tick: all idle slots would look for them at once.
        if any(job_id in (None, run.lease.job) for run in tuple(self._running.values())):
            self._changed.set()

    def _tell(self) -> None:
        """Wake one idle slot."""
        with self._news:
            self._is_news = True
            self._news.notify()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            with self._news:
                self._news.wait_for(lambda: self._is_news or self._stopping.is_set())
                self._is_news = False
            run = self._claim()
            while run is not None:
                self._tell()  # another slot may take another unit
                try:
                    self._carry_out(run)
                except Exception:  # the lease will expire
                    _log.exception("what came of a unit could not be recorded", job=run.lease.job)
                    self._pause()
                finally:
                    with self._claiming:
                        del self._running[run.lease.fence]
                run = self._claim()

    def _claim(self) -> _Run | None:
        """Claim the next unit, if there are resources for it now."""
        with self._claiming:
            if self._stopping.is_set() or time.monotonic() < self._paused_until:
                return None
            leases = [run.lease for run in self._running.values()]
            capacity = self._executor.capacity()
            cores = capacity.cores - sum(lease.cores for lease in leases)
            if cores <= 0 or len(leases) >= capacity.slots:
                return None
            # With nothing running, a unit larger than the limit is claimed too, and refused.
            free_bytes = capacity.bytes - sum(lease.bytes for lease in leases) if leases else sys.maxsize
            try:
                if shutil.disk_usage(self._folder).free < self._min_free_disk:
                    return None
                lease = self._table.claim(
                    self._owner,
                    cores,
                    free_bytes,
                    all_cores=capacity.task_cores,
                    most_bytes=capacity.task_bytes if capacity.may_grow else None,
                    skip=self._with_all_other_slots(capacity.slots),
                )
            except Exception as error:
                if self._trouble.due():
                    _log.exception("no unit could be claimed", error=str(error))
                self._pause()
                return None
            if lease is None:
                return None
            self._running[lease.fence] = run = _Run(self, lease)
            now = time.monotonic()
            self._served[lease.job] = (self._served.get(lease.job, (now,))[0], now)
            return run

    def _with_all_other_slots(self, slots: int) -> str | None:
        """Return the job that holds all slots but one and must leave that to others, which have used it recently."""
        running = {run.lease.job for run in self._running.values()}
        since = time.monotonic() - _RECENT
        self._served = {job: at for job, at in self._served.items() if at[1] > since or job in running}
        if len(running) != 1 or len(self._running) < slots - 1:
            return None
        (job,) = running
        since = max(since, self._served[job][0])
        others = [at for other, (_, at) in self._served.items() if other != job and at > since]
        return job if others else None

    def _carry_out(self, run: _Run) -> None:
        lease = run.lease
        capacity = self._executor.capacity()
        if lease.bytes > capacity.task_bytes and not capacity.may_grow:
            outcome: Outcome = Failed(_too_large(lease.bytes, capacity.task_bytes))
        else:
            try:
                task = Task(lease.fence, lease.kind, lease.request, lease.rows, lease.cores, lease.bytes)
                outcome = self._executor.run(task, run)
            except Exception as error:
                if self._stopping.is_set():
                    outcome = Cancelled()
                else:
                    _log.exception("a unit ended by an exception", job=lease.job)
                    outcome = Lost(f"{type(error).__name__} in the service")
        self.persist(lambda: self._settle(lease, outcome))

    def _settle(self, lease: Lease, outcome: Outcome) -> None:
        match outcome:
            case Done():
                self._table.finish(lease)
                self._pauses = 0
            case Lost(reason, status):
                _log.warning("a unit was lost", job=lease.job, reason=reason)
                self._table.lose(lease, reason, status)
            case Failed(problem, traceback):
                if traceback:
                    _log.error("a job failed through a defect", job=lease.job, traceback=traceback)
                self._table.fail(lease, problem)
                self._changed.set()  # other units of the job may be running
            case PutBack(reason, lasting):
                _log.warning("a unit has to wait", job=lease.job, reason=reason)
                if lasting:
                    self._pause()
                self._table.put_back(lease, reason)
            case Cancelled():  # service stopping; a unit whose lease has ended is unaffected
                self._table.put_back(lease, "the service was stopped")

    def persist(self, write: Callable[[], T]) -> T:
        """Write to the table, with retries if the disk is full or the database unavailable; no retry while stopping.

        Args:
            write: atomic write.

        Returns:
            its return value.
        """
        seconds = 0.1
        while True:
            try:
                return write()
            except _LATER as error:
                _log.warning("the table of jobs cannot be written to", error=str(error))
                if self._stopping.wait(seconds):
                    raise
                seconds = min(2 * seconds, 5.0)

    def record(self, run: _Run, rows: list[tuple[int, dict[str, Any]]]) -> None:
        """Store rows; cancel the task if the lease on its unit has ended.

        Args:
            run: run of the unit.
            rows: row indices and results.
        """
        if not self.persist(lambda: self._table.record(run.lease, rows)):
            self._executor.cancel(run.lease.fence)

    def report(self, run: _Run, stage: str, done: int, total: int) -> None:
        """Record progress; failures are logged and ignored.

        Args:
            run: run of the unit.
            stage: name of the stage.
            done: finished steps.
            total: all steps.
        """
        try:
            self._table.progress(run.lease, stage, done, total)
        except Exception as error:
            _log.warning("progress was lost", job=run.lease.job, error=str(error))

    def _pause(self) -> None:
        """Suspend claims, for twice as long each time until a unit succeeds."""
        self._pauses += 1
        self._paused_until = time.monotonic() + min(2.0 ** (self._pauses - 1), _LONGEST_PAUSE)

    def _keep_leases(self) -> None:
        next_beat = 0.0
        while not self._stopping.is_set():
            now = time.monotonic()
            due, changed = now >= next_beat, self._changed.is_set()
            self._changed.clear()
            if due:  # also after a failure, which is retried soon, but not at once
                next_beat = now + self._lease_seconds / 3
            try:
                if due or changed:
                    self._beat()
                if due:
                    self._table.expire()  # after the own leases were renewed
            except Exception as error:
                next_beat = min(next_beat, now + _TICK)
                if self._trouble.due():
                    _log.exception("leases could not be prolonged", error=str(error))
            self._add_slots()
            self._tell()
            if self._changed.wait(min(_TICK, max(next_beat - time.monotonic(), 0.01))):
                self._stopping.wait(_CALM)

    def _beat(self) -> None:
        """Renew all leases, and cancel the tasks whose leases have ended."""
        runs = list(self._running.values())
        ours = self._table.heartbeat([run.lease for run in runs]) if runs else set()
        for run in runs:
            # A unit leaves the table with its last row; its process must not be killed for that.
            if run.lease.unit not in ours and run.missing:
                self._executor.cancel(run.lease.fence)


class _Run:
    """Running unit, and listener of its task."""

    def __init__(self, dispatcher: Dispatcher, lease: Lease) -> None:
        self.lease = lease
        self.missing = set(lease.rows)
        self._dispatcher = dispatcher

    def rows(self, rows: list[tuple[int, dict[str, Any]]]) -> None:
        self.missing -= {place for place, _ in rows}
        self._dispatcher.record(self, rows)

    def progress(self, stage: str, done: int, total: int) -> None:
        self._dispatcher.report(self, stage, done, total)


def _too_large(needed: int, limit: int) -> dict[str, Any]:
    detail = (
        f"A part of this job takes {needed / 2**30:.1f} GiB of memory, and the service may use {limit / 2**30:.1f}."
    )
    return Problem(422, "kernel-too-large", f"{detail} Use fewer inputs, or raise NNGP_MEMORY_LIMIT.").document()
