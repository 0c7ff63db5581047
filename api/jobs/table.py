"""The table of jobs: what was accepted, who computes what, what is done. The one truth of the service.

A job's rows are divided among units; a worker claims a unit for a while (a lease) and records rows as they finish. Work
may be done more than once: a worker that is silent for too long loses its lease, and another starts on the rows that
are left. Effects happen once: each claim has a number, its fence, and what comes under an older one is refused in the
same transaction that would have stored it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import structlog
from sqlalchemy import delete, insert, select, update
from typing_extensions import override

from api.jobs.models import OPEN, Job, Lease, State
from api.jobs.queries import Queries, find
from api.jobs.row_ranges import ranges_of
from api.jobs.schema import EVENTS, JOBS, RESULTS, STORE, UNITS
from api.jobs.store_time import StoreTime
from api.jobs.transaction import Transaction
from api.problems import DamagedStore
from api.seals import DAMAGED
from api.work.base import Plan
from nngp_prior.errors import InvalidInput

_log = structlog.get_logger(__name__)
_QUIET = 1.0  # seconds between two events of progress
_FORGOTTEN = 100  # jobs that are deleted at once
_DAY = 86_400.0


class JobTable(Queries):
    """Durable; any number of threads and processes may use it at once. Each method is one transaction.

    Args:
        url: of the database, as SQLAlchemy has it; the tables are made or brought up to date.
        lease_seconds: how long a claim holds unless it is prolonged.
        clock: seconds since 1970, for the times that clients see; no decision depends on it.
        steady: seconds of a clock that is never set.

    Attributes:
        taken: True once another service has begun to use the database.
    """

    def __init__(
        self,
        url: str,
        *,
        lease_seconds: float = 15.0,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(url)
        self._lease_seconds, self._clock, self._steady = lease_seconds, clock, steady
        self._age = StoreTime(self.database, clock, steady)
        self._owner: str | None = None
        self.taken = False
        self._listeners: list[Callable[[str], None]] = []

    @contextmanager
    def _change(self) -> Iterator[Transaction]:
        with self.database.write() as connection:
            change = Transaction(connection, self._clock(), self._steady(), self._age())
            yield change
        for job_id in change.jobs:
            for callback in tuple(self._listeners):
                try:
                    callback(job_id)
                except Exception:  # what is committed is done, whatever becomes of those who wanted to know
                    _log.exception("A listener failed.", job=job_id)

    def submit(
        self,
        job_id: str,
        kind: str,
        request: dict[str, Any],
        plan: Plan,
        request_id: str | None = None,
        summary: dict[str, Any] | None = None,
        *,
        anew: bool = False,
    ) -> tuple[Job, bool]:
        """Accept a job, or find the one that there is.

        One that is not final starts a new attempt, and keeps the rows that it has; those that were given up are tried
        again.

        Args:
            job_id: hash of the request.
            kind: of work.
            request: as JSON has it.
            plan: its rows, in chunks.
            request_id: of whoever asks, for finding in logs what came of it.
            summary: of the request, for lists.
            anew: begin a new attempt in any case, and without the rows that it has.

        Returns:
            the job, and whether this call made it, or a new attempt of it.
        """
        with self._change() as change:
            known = find(change.connection, job_id)
            if known is not None and known.is_final and not anew:
                return known, False
            values: dict[str, Any] = {"state": State.ACCEPTED, "losses": 0, "given_up": 0, "updated": change.now}
            values |= dict.fromkeys(("stage", "error", "started", "finished", "ended", "told"))
            values |= {"request": request, "rows": plan.rows, "facts": plan.facts, "request_id": request_id}
            values |= {"summary": summary, "turn": change.tickets()}
            if known is None:
                values |= {"id": job_id, "kind": kind, "unit": plan.unit}
                values |= {"attempt": 1, "done": 0, "version": 1, "created": change.now}
                change.connection.execute(insert(JOBS), values)
            number = change.number_of(job_id)
            attempt, done = 1, 0
            if known is not None:
                attempt, done = known.attempt + 1, known.done
                if anew:
                    change.empty(number)
                    done = 0
                done -= change.forget_given_up(number) if known.given_up else 0
                change.update(number, job_id, **values, attempt=attempt, done=done)
                change.connection.execute(delete(EVENTS).where(EVENTS.c.job == number))
            change.tell(number, "accepted", {"attempt": attempt, "done": done, "total": plan.rows})
            change.jobs.add(job_id)
            if not self._queue(change, number, plan):
                change.end(number, job_id, State.SUCCESSFUL, {"rows": done})
            job = find(change.connection, job_id)
            assert job is not None
            return job, True

    @staticmethod
    def _queue(change: Transaction, number: int, plan: Plan) -> int:
        stored = change.stored(number, 0, plan.rows)
        left = [(chunk, ranges_of(row for row in chunk.rows if row not in stored)) for chunk in plan.chunks]
        place = change.tickets(len(left)) - len(left)
        new = {"job": number, "losses": 0, "interruptions": 0}
        units = [
            {**new, "place": place + i, "rows": rows, "cores": c.cores, "bytes": c.bytes}
            for i, (c, rows) in enumerate(left, 1)
            if rows
        ]
        if units:  # SQLAlchemy takes an empty list for one row of defaults
            change.connection.execute(insert(UNITS), units)
        return len(units)

    def claim(
        self, owner: str, cores: int, free_bytes: int, *, all_cores: int | None = None, but: str | None = None
    ) -> Lease | None:
        """Take the next unit if it fits. Jobs take turns: the next unit is of the job that was served longest ago.

        Nothing overtakes it: a unit that needs all cores gets them.

        Args:
            owner: who will compute it.
            cores: that are free.
            free_bytes: of memory.
            all_cores: that there are, free or not; those that are free when absent.
            but: id of a job that is passed over.

        Returns:
            the lease; None if nothing waits or the next unit does not fit.

        Raises:
            InvalidInput: if another service has begun to use the database.
        """
        total = cores if all_cores is None else all_cores
        with self._change() as change:
            self._require_ours(change)
            while (unit := change.next_unit(but)) is not None and DAMAGED in (unit.request, unit.rows):
                change.fail_damaged(unit)
            if unit is None:
                return None
            needed = min(unit.cores or total, total)
            if needed > cores or unit.bytes > free_bytes:
                return None
            fence, until = change.tickets(), change.steady + self._lease_seconds
            taken = {"owner": owner, "fence": fence, "until": until}
            change.connection.execute(update(UNITS).where(UNITS.c.id == unit.id).values(taken))
            change.next_turn(unit.job)
            if unit.state == State.ACCEPTED:
                change.update(unit.job, unit.job_id, state=State.RUNNING, started=change.now)
                change.tell(unit.job, "running", {})
            rows = tuple(change.left(unit))
            return Lease(unit.id, unit.job_id, unit.kind, unit.request, rows, needed, unit.bytes, fence, until)

    def heartbeat(self, leases: Sequence[Lease]) -> set[int]:
        """Prolong leases.

        Args:
            leases: of units that are being computed.

        Returns:
            numbers of those units that are still theirs: the others were dismissed or taken over.
        """
        if not leases:
            return set()
        with self._change() as change:
            until = change.steady + self._lease_seconds
            ours = {lease.unit for lease in leases if change.held(lease) is not None}
            change.connection.execute(update(UNITS).where(UNITS.c.id.in_(ours)).values(until=until))
            return ours

    def record(self, lease: Lease, rows: Sequence[tuple[int, dict[str, Any]]]) -> bool:
        """Store results; with the last row the job is successful.

        A row is stored once: one that is there already stays as it is.

        Args:
            lease: of their unit.
            rows: places and results.

        Returns:
            False, and nothing is stored, if the lease ended.

        Raises:
            InvalidInput: a row is none of the unit's.
        """
        with self._change() as change:
            unit = change.held(lease)
            if unit is None:
                return False
            strange = [row for row, _ in rows if not any(first <= row < end for first, end in unit.rows)]
            if strange:
                raise InvalidInput("rows", f"got {strange[:5]}, not of unit {unit.rows}", "Record rows of the lease.")
            if rows:
                change.store(unit, rows)
            return True

    def progress(self, lease: Lease, stage: str, done: int, total: int) -> None:
        """Say how far a job is. The job has the last that was said; events of it are a second or more apart.

        Args:
            lease: of one of its units.
            stage: what is being done.
            done: steps.
            total: steps there are.
        """
        with self._change() as change:
            unit = change.held(lease)
            if unit is None:
                return
            values: dict[str, Any] = {"stage": {"stage": stage, "done": done, "total": total}}
            if unit.told is None or not 0 <= change.now - unit.told < _QUIET:  # the clock may have been set back
                change.tell(unit.job, "progress", values["stage"])
                values["told"] = change.now
            change.update(unit.job, unit.job_id, **values)

    def finish(self, lease: Lease) -> None:
        """A unit is done. If rows of it have no result all the same, that is a loss: else it would be tried for ever.

        Args:
            lease: of the unit.
        """
        self.lose(lease, "the worker ended without results for these rows")

    def lose(self, lease: Lease, reason: str, status: str = "worker-crashed") -> None:
        """The worker died.

        The rows that are left are tried again in halves, until the row that is the cause is alone. It gets a status: of
        crashes at the third one while it is alone, of other causes, which chance has no part in, at once.

        Args:
            lease: of its unit.
            reason: how it died.
            status: ``worker-crashed`` or ``memory-limit``.
        """
        with self._change() as change:
            unit = change.held(lease)
            if unit is not None:
                change.lose(unit, reason, status)

    def put_back(self, lease: Lease, reason: str) -> None:
        """A unit cannot be computed now, and it is not its fault: it waits again.

        Args:
            lease: of the unit.
            reason: why not.
        """
        with self._change() as change:
            unit = change.held(lease)
            if unit is not None:
                change.release(unit)
                _log.info("A unit waits again.", job=lease.job, unit=lease.unit, reason=reason)

    def fail(self, lease: Lease, error: dict[str, Any]) -> None:
        """The whole job failed. Its other units go, the rows that it has stay.

        Args:
            lease: of one of its units.
            error: problem details.
        """
        with self._change() as change:
            unit = change.held(lease)
            if unit is not None:
                told = error if unit.request_id is None else {**error, "request_id": unit.request_id}
                change.end(unit.job, unit.job_id, State.FAILED, {"error": told}, error=told)

    def dismiss(self, job_id: str) -> Job | None:
        """Give a job up. Its units go, those that run too: their leases end. The rows that it has stay.

        Args:
            job_id: its id; nothing happens to one that is over.

        Returns:
            the job; None if there is none.
        """
        with self._change() as change:
            numbers = select(JOBS.c.number).where(JOBS.c.id == job_id, JOBS.c.state.in_(OPEN))
            number = change.connection.execute(numbers).scalar_one_or_none()
            if number is not None:
                change.end(number, job_id, State.DISMISSED, {})
            return find(change.connection, job_id)

    def expire(self) -> int:
        """Have units wait again whose leases ran out.

        Leases are prolonged while units are computed, and deaths of workers are noticed: the service lost sight of
        these units.

        Returns:
            how many.
        """
        with self._change() as change:
            count = 0
            while (unit := change.overdue()) is not None:
                change.interrupt(unit)
                count += 1
            return count

    def reclaim(self, owner: str | None = None) -> int:
        """Have all units wait again that a service which is gone has computed.

        Args:
            owner: names the service that uses the database from now on; one that used it before is refused claims.

        Returns:
            how many.
        """
        self._owner = owner
        with self._change() as change:
            change.connection.execute(update(STORE).values(owner=owner))
            units = change.all_held()
            for unit in units:
                change.interrupt(unit)
            return len(units)

    def refuse(self, job_id: str, error: dict[str, Any]) -> None:
        """End a job that cannot be carried out any more.

        Args:
            job_id: of an open job.
            error: problem details.
        """
        with self._change() as change:
            number = change.number_of(job_id)
            change.end(number, job_id, State.FAILED, {"error": error}, error=error)

    def forget(self, days: float) -> int:
        """Delete jobs that ended long ago, with their results and events; some of them at a time.

        Args:
            days: since their end, by the store's time.

        Returns:
            how many; 0 where none are left.
        """
        self._age.save()
        with self._change() as change:
            old = select(JOBS.c.number).where(JOBS.c.ended < change.age - _DAY * days).limit(_FORGOTTEN)
            numbers = list(change.connection.scalars(old))
            for column in (EVENTS.c.job, RESULTS.c.job, JOBS.c.number):
                change.connection.execute(delete(column.table).where(column.in_(numbers)))
            return len(numbers)

    @override
    def request(self, job_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            return super().request(job_id)
        except DamagedStore:  # so that submitting it again writes the request again
            with self._change() as change:
                change.reopen(job_id)
            raise

    @override
    def _forget_damaged(self, job_id: str, row: int) -> dict[str, Any]:
        _log.error("a stored result was damaged", job=job_id, row=row)
        with self._change() as change:
            return change.forget_damaged(job_id, row)

    def _require_ours(self, change: Transaction) -> None:
        if self._owner is None:
            return
        self.taken = change.connection.execute(select(STORE.c.owner)).scalar_one() != self._owner
        if self.taken:
            remedy = "End one of them, or give each its own database, and start again."
            raise InvalidInput("NNGP_DATABASE_URL", "another service has begun to use the database", remedy)

    def listen(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Be told of changes that this process makes.

        Args:
            callback: called with a job's id after each change that is committed, from any thread.

        Returns:
            a function that ends it.
        """
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)
