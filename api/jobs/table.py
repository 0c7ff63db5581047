"""Job table: accepted requests, claims of workers, results. The service's single source of truth.

The rows of a job are divided into units, which workers compute; see :mod:`api.jobs.leased_units`.
"""

from __future__ import annotations

from typing import Any

import structlog
from sqlalchemy import delete, insert, select
from typing_extensions import override

from api.jobs.leased_units import LeasedUnits
from api.jobs.models import OPEN, Job, State
from api.jobs.queries import find
from api.jobs.row_ranges import ranges_of
from api.jobs.schema import EVENTS, JOBS, NAMES, RESULTS, TAGS, UNITS
from api.jobs.transaction import Transaction
from api.problems import DamagedStore
from api.work.base import Plan
from nngp_prior.schemas.job_names import JobEdit

_log = structlog.get_logger(__name__)
_FORGOTTEN = 100  # jobs deleted per transaction
_DAY = 86_400.0


class JobTable(LeasedUnits):
    """Durable job table, safe for concurrent use by threads and processes. Each method is one transaction.

    Arguments and attributes are those of :class:`api.jobs.leased_units.LeasedUnits`.
    """

    def submit(
        self,
        job_id: str,
        kind: str,
        request: dict[str, Any],
        plan: Plan,
        request_id: str | None = None,
        summary: dict[str, Any] | None = None,
        *,
        edit: JobEdit | None = None,
        anew: bool = False,
    ) -> tuple[Job, bool]:
        """Accept a job, or find the existing one.

        A job that is not final starts a new attempt and keeps its results; rows that were given up are tried again.

        Args:
            job_id: hash of the request.
            kind: kind of work.
            request: request as JSON.
            plan: plan of its rows, in chunks.
            request_id: id of the HTTP request, for tracing it in logs.
            summary: summary of the request, for lists.
            edit: change of its name and tags, also of an existing job's.
            anew: True to start a new attempt in any case, without existing results.

        Returns:
            the job, and True if this call created it or a new attempt of it.

        Raises:
            InvalidInput: if the job would have too many tags; nothing is changed.
            DatabaseUnavailable: if services of other versions have started to use the database.
        """
        edit = JobEdit() if edit is None else edit
        with self._change() as change:
            if self.database.shared:
                self._require_ours(change)  # services of other versions would compute rows of theirs
            known = find(change.connection, job_id)
            if known is not None and known.is_final and not anew:
                return change.describe(known, known.names.after(edit)), False
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
            return change.describe(job, job.names.after(edit)), True

    @staticmethod
    def _queue(change: Transaction, number: int, plan: Plan) -> int:
        stored = change.stored(number, 0, plan.rows)
        left = [(chunk, ranges_of(row for row in chunk.rows if row not in stored)) for chunk in plan.chunks]
        place = change.tickets(len(left)) - len(left)
        new = {"job": number, "losses": 0, "interruptions": 0}
        units = [
            {**new, "place": place + i, "phase": c.phase, "rows": rows, "cores": c.cores, "bytes": c.bytes}
            for i, (c, rows) in enumerate(left, 1)
            if rows
        ]
        if units:  # SQLAlchemy would insert one row of defaults for an empty list
            change.connection.execute(insert(UNITS), units)
        return len(units)

    def edit(self, job_id: str, edit: JobEdit) -> Job | None:
        """Change the name or the tags of a job.

        Args:
            job_id: id of the job.
            edit: the change.

        Returns:
            the job; None if there is none.

        Raises:
            InvalidInput: if the job would have too many tags.
        """
        with self._change() as change:
            job = find(change.connection, job_id)
            return None if job is None else change.describe(job, job.names.after(edit))

    def dismiss(self, job_id: str) -> Job | None:
        """Dismiss a job. Its units are removed and their leases end; its results stay.

        Args:
            job_id: id of the job; no effect if it has ended.

        Returns:
            the job; None if there is none.
        """
        with self._change() as change:
            numbers = select(JOBS.c.number).where(JOBS.c.id == job_id, JOBS.c.state.in_(OPEN))
            number = change.connection.execute(numbers).scalar_one_or_none()
            if number is not None:
                change.end(number, job_id, State.DISMISSED, {})
            return find(change.connection, job_id)

    def refuse(self, job_id: str, error: dict[str, Any]) -> None:
        """End a job that can no longer be carried out.

        Args:
            job_id: id of an open job.
            error: problem details.
        """
        with self._change() as change:
            number = change.number_of(job_id)
            change.end(number, job_id, State.FAILED, {"error": error}, error=error)

    def forget(self, days: float) -> int:
        """Delete jobs that ended long ago, with all that belongs to them; a limited number per call.

        Args:
            days: store time since their end, days.

        Returns:
            number of deleted jobs; 0 if none are left.
        """
        self._age.save()
        with self._change() as change:
            old = select(JOBS.c.number).where(JOBS.c.ended < change.age - _DAY * days).limit(_FORGOTTEN)
            numbers = list(change.connection.scalars(old))
            for column in (EVENTS.c.job, RESULTS.c.job, NAMES.c.job, TAGS.c.job, JOBS.c.number):
                change.connection.execute(delete(column.table).where(column.in_(numbers)))
            return len(numbers)

    @override
    def request(self, job_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            return super().request(job_id)
        except DamagedStore:  # lets a new submission write the request again
            with self._change() as change:
                change.reopen(job_id)
            raise

    @override
    def _forget_damaged(self, job_id: str, row: int) -> dict[str, Any]:
        _log.error("a stored result was damaged", job=job_id, row=row)
        with self._change() as change:
            return change.forget_damaged(job_id, row)
