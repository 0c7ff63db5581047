"""Units of jobs, as workers see them: leases, results, losses.

A worker claims a unit for a limited time (a lease) and records rows as they finish. Work may be done more than once: a
worker that does not renew its lease loses it, and another continues with the remaining rows. Effects happen once: each
claim has a number, its fence, and a write with an older fence is refused in the same transaction that would have stored
it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import select, update

from api.jobs.models import Lease, State
from api.jobs.queries import Queries
from api.jobs.schema import STORE, UNITS
from api.jobs.store_time import StoreTime
from api.jobs.transaction import Transaction
from api.problems import DatabaseUnavailable
from api.seals import DAMAGED
from nngp_prior.errors import InvalidInput

_log = structlog.get_logger(__name__)
_QUIET = 1.0  # seconds between two progress events


class LeasedUnits(Queries):
    """Units and their leases. Each method is one transaction.

    Args:
        url: SQLAlchemy URL of the database; tables are created or migrated.
        lease_seconds: duration of a lease unless renewed.
        clock: seconds since 1970, for the times shown to clients; no decision depends on it.
        steady: clock that is never set, seconds; default: for leases the database's, which all its services have in
            common, and this machine's for the age of jobs.
        password_file: file with the password of the database, instead of one in the URL.

    Attributes:
        taken: True once a service has started to use the database that excludes this one.
    """

    def __init__(
        self,
        url: str,
        *,
        lease_seconds: float = 15.0,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] | None = None,
        password_file: Path | None = None,
    ) -> None:
        super().__init__(url, password_file=password_file)
        self._lease_seconds, self._clock, self._steady = lease_seconds, clock, steady
        self._age = StoreTime(self.database, clock, steady or time.monotonic)
        self._owner: str | None = None
        self.taken = False
        self._listeners: list[Callable[[str], None]] = []
        self._elsewhere: list[Callable[[str | None], None]] = []

    @contextmanager
    def _change(self) -> Iterator[Transaction]:
        try:
            with self.database.write() as connection:
                now = self.database.seconds(connection) if self._steady is None else self._steady()
                change = Transaction(connection, self._clock(), now, self._age())
                yield change
                self.database.announce(connection, change.jobs)
        except DatabaseUnavailable:
            _call(self._elsewhere, [None])  # the connection may have broken after the commit
            raise
        _call(self._listeners, change.jobs)

    def listen(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Register a listener for changes made by this process.

        Args:
            callback: called with the job's id after each committed change, from any thread.

        Returns:
            a function that removes the listener.
        """
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    def listen_elsewhere(self, callback: Callable[[str | None], None]) -> Callable[[], None]:
        """Register a listener for changes made by other processes; see :meth:`follow`.

        Args:
            callback: called with the job's id, or with None if changes of any job may have been missed.

        Returns:
            a function that removes the listener.
        """
        self._elsewhere.append(callback)
        return lambda: self._elsewhere.remove(callback)

    def follow(self) -> None:
        """Follow changes by other processes until the table is closed, if several services may use the database."""
        self.database.follow(lambda job_id: _call(self._elsewhere, [job_id]))

    def claim(
        self,
        owner: str,
        cores: int,
        free_bytes: int,
        *,
        all_cores: int | None = None,
        most_bytes: int | None = None,
        skip: str | None = None,
    ) -> Lease | None:
        """Claim the next unit if it fits. Jobs take turns: the next unit belongs to the job served least recently.

        No unit overtakes it, so that a unit that needs all cores is never starved.

        Args:
            owner: worker that will compute it.
            cores: number of free cores.
            free_bytes: bytes of free memory.
            all_cores: number of all cores of a machine, free or not; default: ``cores``.
            most_bytes: units that need more are skipped, and wait for a larger machine; default: none.
            skip: id of a job to skip.

        Returns:
            the lease; None if no unit waits or the next one does not fit.

        Raises:
            InvalidInput: if another service has started to use the database.
            DatabaseUnavailable: if services of other versions have.
        """
        total = cores if all_cores is None else all_cores
        with self._change() as change:
            self._require_ours(change)
            while (unit := change.next_unit(skip, most_bytes)) is not None and DAMAGED in (unit.request, unit.rows):
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
        """Renew leases.

        Args:
            leases: leases of running units.

        Returns:
            numbers of the units whose leases still hold; the others were dismissed or claimed by another worker.
        """
        if not leases:
            return set()
        with self._change() as change:
            until = change.steady + self._lease_seconds
            ours = {lease.unit for lease in leases if change.held(lease) is not None}
            change.connection.execute(update(UNITS).where(UNITS.c.id.in_(ours)).values(until=until))
            return ours

    def record(self, lease: Lease, rows: Sequence[tuple[int, dict[str, Any]]]) -> bool:
        """Store results; with its last row the job is successful.

        A row is stored once: an existing result is not changed.

        Args:
            lease: lease on their unit.
            rows: row indices and results.

        Returns:
            False, with nothing stored, if the lease has ended.

        Raises:
            InvalidInput: if a row does not belong to the unit.
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
        """Record progress. The job shows the latest progress; its events are at least 1 s apart.

        Args:
            lease: lease on one of its units.
            stage: name of the stage.
            done: finished steps.
            total: all steps.
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
        """Finish a unit. Missing results count as a loss; otherwise the unit would be retried forever.

        Args:
            lease: lease on the unit.
        """
        self.lose(lease, "the worker ended without results for these rows")

    def lose(self, lease: Lease, reason: str, status: str = "worker-crashed") -> None:
        """Record the death of a worker.

        The remaining rows are retried in halves, until the row that is the cause is alone. It then gets a status: for
        crashes at the third one while it is alone; for other causes, which are not random, at once.

        Args:
            lease: lease on its unit.
            reason: how it died.
            status: ``worker-crashed`` or ``memory-limit``.
        """
        with self._change() as change:
            unit = change.held(lease)
            if unit is not None:
                change.lose(unit, reason, status)

    def put_back(self, lease: Lease, reason: str) -> None:
        """Requeue a unit that cannot be computed now for reasons unrelated to it.

        Args:
            lease: lease on the unit.
            reason: the obstacle.
        """
        with self._change() as change:
            unit = change.held(lease)
            if unit is not None:
                change.release(unit)
                _log.info("A unit waits again.", job=lease.job, unit=lease.unit, reason=reason)

    def fail(self, lease: Lease, error: dict[str, Any]) -> None:
        """Fail a whole job. Its other units are removed; its results stay.

        Args:
            lease: lease on one of its units.
            error: problem details.
        """
        with self._change() as change:
            unit = change.held(lease)
            if unit is not None:
                problem = error if unit.request_id is None else {**error, "request_id": unit.request_id}
                change.end(unit.job, unit.job_id, State.FAILED, {"error": problem}, error=problem)

    def expire(self) -> int:
        """Requeue units with expired leases.

        Leases are renewed while units run, and deaths of workers are noticed; an expired lease means that the
        service lost track of the unit.

        Returns:
            number of units.
        """
        with self._change() as change:
            count = 0
            while (unit := change.overdue()) is not None:
                change.interrupt(unit)
                count += 1
            return count

    def reclaim(self, owner: str | None = None) -> int:
        """Requeue all units claimed by a service that has ended.

        Args:
            owner: name of the service that uses the database from now on; earlier ones are refused claims.

        Returns:
            number of units.
        """
        self._owner = owner
        with self._change() as change:
            change.connection.execute(update(STORE).values(owner=owner))
            units = change.all_held()
            for unit in units:
                change.interrupt(unit)
            return len(units)

    def join(self, versions: str, folder: str) -> None:
        """Use the database beside other services. Units of ended ones wait until their leases expire.

        Args:
            versions: digest of the versions that numbers depend on; services of others are refused from now on.
            folder: id of the folder with uploads and kernels.

        Raises:
            InvalidInput: if the other services use another folder.
        """
        self._owner = versions
        with self._change() as change:
            known = change.connection.execute(select(STORE.c.folder)).scalar_one()
            if known not in (None, folder):
                problem = "the services of this database have their uploads and kernels in another folder"
                remedy = "Set it to the folder that they share, or use another database (NNGP_DATABASE_URL)."
                raise InvalidInput("NNGP_HOME", problem, remedy)
            change.connection.execute(update(STORE).values(owner=versions, folder=folder))

    def _require_ours(self, change: Transaction) -> None:
        if self._owner is None:
            return
        self.taken = change.connection.execute(select(STORE.c.owner)).scalar_one() != self._owner
        if self.taken and self.database.shared:
            raise DatabaseUnavailable("Services of other versions use the database. Restart this one with theirs.")
        if self.taken:
            remedy = "End one of them, or give each its own database, and start again."
            raise InvalidInput("NNGP_DATABASE_URL", "another service has begun to use the database", remedy)


def _call(callbacks: Iterable[Callable[[Any], None]], jobs: Iterable[str | None]) -> None:
    for job_id in jobs:
        for callback in tuple(callbacks):
            try:
                callback(job_id)
            except Exception:  # the change is committed, whatever happens to its listeners
                _log.exception("A listener failed.", job=job_id)
