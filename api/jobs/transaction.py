"""Changes to jobs and their units within one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Text, cast, delete, insert, or_, select, update

from api.jobs.models import Job, Lease, State
from api.jobs.queries import find, folded
from api.jobs.row_ranges import ranges_of, rows_of
from api.jobs.schema import EVENTS, JOBS, NAMES, RESULTS, TAGS, TICKETS, UNITS
from api.problems import DamagedStore, problem_of
from api.seals import DAMAGED
from nngp_prior.schemas.job_names import JobNames
from nngp_prior.schemas.pieces import encode
from nngp_prior.schemas.results.base import GIVEN_UP, refused_row

LOSSES = 3
"""Number of crashes after which a row alone in its unit is given up."""
INTERRUPTIONS = 100
"""Number of service deaths during a unit after which it is bisected: finds a row that kills the whole service."""

_EARLIER = UNITS.alias()
_OF_EARLIER_PHASE = (_EARLIER.c.job == UNITS.c.job) & (_EARLIER.c.phase < UNITS.c.phase)
_READY = UNITS.c.until.is_(None) & ~select(_EARLIER.c.id).where(_OF_EARLIER_PHASE).correlate(UNITS).exists()
_HELD = select(
    UNITS, JOBS.c.id.label("job_id"), JOBS.c.rows.label("of"), JOBS.c.done, JOBS.c.told, JOBS.c.request_id
).join(JOBS)


class Transaction:
    """Write transaction.

    Args:
        connection: connection in a transaction.
        now: time of all its writes.
        steady: time by which leases end, seconds.
        age: store time.

    Attributes:
        jobs: ids of the changed jobs.
    """

    def __init__(self, connection: Connection, now: float, steady: float, age: float) -> None:
        self.connection, self.now, self.steady, self.age = connection, now, steady, age
        self.jobs: set[str] = set()

    def held(self, lease: Lease) -> Row[Any] | None:
        """Return the unit of a lease, with some columns of its job.

        Args:
            lease: a lease issued earlier.

        Returns:
            the unit; None if the lease has ended, as its fence shows.
        """
        theirs = (UNITS.c.id == lease.unit) & (UNITS.c.fence == lease.fence)
        return self.connection.execute(_HELD.where(theirs)).one_or_none()

    def all_held(self) -> Sequence[Row[Any]]:
        """Return the units of all leases.

        Returns:
            units, each as from :meth:`held`.
        """
        return self.connection.execute(_HELD.where(UNITS.c.fence.is_not(None)).order_by(UNITS.c.id)).all()

    def overdue(self) -> Row[Any] | None:
        """Return the unit whose lease expired first.

        Returns:
            the unit, as from :meth:`held`; None if all leases hold.
        """
        oldest = _HELD.where(UNITS.c.until < self.steady).order_by(UNITS.c.until, UNITS.c.place, UNITS.c.id)
        return self.connection.execute(oldest.limit(1)).one_or_none()

    def tickets(self, count: int = 1) -> int:
        """Issue numbers never issued before.

        Args:
            count: how many numbers.

        Returns:
            the last of them.
        """
        return self.connection.execute(
            update(TICKETS).values(last=TICKETS.c.last + count).returning(TICKETS.c.last)
        ).scalar_one()

    def update(self, number: int, job_id: str, **values: Any) -> None:
        """Update a job.

        Args:
            number: number of the job.
            job_id: id of the same job.
            values: new values of its columns.
        """
        values |= {"version": JOBS.c.version + 1, "updated": self.now}
        self.connection.execute(update(JOBS).where(JOBS.c.number == number).values(values))
        self.jobs.add(job_id)

    def describe(self, job: Job, names: JobNames) -> Job:
        """Give a job another name and other tags.

        Args:
            job: the job as it is.
            names: new name and tags.

        Returns:
            the job after the change, which is none if the name and the tags are the same.
        """
        if names == job.names:
            return job
        number = self.number_of(job.id)
        for table in (NAMES, TAGS):
            self.connection.execute(delete(table).where(table.c.job == number))
        if names.name is not None:
            row = {"job": number, "name": names.name, "folded": folded(names.name)}
            self.connection.execute(insert(NAMES), row)
        if names.tags:
            self.connection.execute(insert(TAGS), [{"job": number, "tag": tag} for tag in names.tags])
        self.update(number, job.id)
        found = find(self.connection, job.id)
        assert found is not None
        return found

    def next_turn(self, number: int) -> None:
        """Move a job that was served behind all other waiting jobs.

        Args:
            number: number of the job; no effect if it has ended.
        """
        waits = (JOBS.c.number == number) & JOBS.c.turn.is_not(None)
        self.connection.execute(update(JOBS).where(waits).values(turn=self.tickets()))

    def next_unit(self, skip: str | None = None, most_bytes: int | None = None) -> Row[Any] | None:
        """Return the first waiting unit of the job whose turn it is, among units that wait for no earlier phase.

        Args:
            skip: id of a job to skip.
            most_bytes: units that need more are skipped; default: none.

        Returns:
            the unit, with the columns of its job that a lease needs; None if there is none.
        """
        ready = _READY if most_bytes is None else _READY & (UNITS.c.bytes <= most_bytes)
        waits = select(UNITS.c.id).where(UNITS.c.job == JOBS.c.number, ready).exists()
        jobs = select(JOBS.c.number).where(JOBS.c.turn.is_not(None), waits).order_by(JOBS.c.turn)
        if skip is not None:
            jobs = jobs.where(JOBS.c.id != skip)
        number = self.connection.execute(jobs.limit(1)).scalar_one_or_none()
        if number is None:
            return None
        unit = select(UNITS, JOBS.c.id.label("job_id"), JOBS.c.kind, JOBS.c.request, JOBS.c.state).join(JOBS)
        unit = unit.where(UNITS.c.job == number, ready).order_by(UNITS.c.place, UNITS.c.id)
        return self.connection.execute(unit.limit(1)).one()

    def tell(self, number: int, type_: str, data: dict[str, Any]) -> None:
        """Add an event.

        Args:
            number: number of the job.
            type_: type of the event.
            data: details.
        """
        row = {"job": number, "type": type_, "data": data, "created": self.now}
        self.connection.execute(insert(EVENTS), row)

    def end(self, number: int, job_id: str, state: State, data: dict[str, Any], **values: Any) -> None:
        """End a job: remove its units, and drop its progress.

        Args:
            number: number of the job.
            job_id: id of the same job.
            state: final state.
            data: details of the event.
            values: new values of other columns.
        """
        self.connection.execute(delete(UNITS).where(UNITS.c.job == number))
        self.connection.execute(delete(EVENTS).where(EVENTS.c.job == number, EVENTS.c.type == "progress"))
        self.update(number, job_id, state=state, stage=None, turn=None, finished=self.now, ended=self.age, **values)
        self.tell(number, state, data)

    def left(self, unit: Row[Any]) -> list[int]:
        """Return the rows of a unit without results.

        Args:
            unit: row of the table of units.

        Returns:
            row indices in order.
        """
        return rows_of(unit.rows, self.stored(unit.job, unit.rows[0][0], unit.rows[-1][1]))

    def stored(self, number: int, first: int, end: int) -> set[int]:
        """Return the rows with results in a range.

        Args:
            number: number of the job.
            first: first row of the range.
            end: last row of the range, plus 1.

        Returns:
            row indices.
        """
        inside = (RESULTS.c.job == number) & (RESULTS.c.row >= first) & (RESULTS.c.row < end)
        return set(self.connection.scalars(select(RESULTS.c.row).where(inside)))

    def store(self, unit: Row[Any], rows: Sequence[tuple[int, dict[str, Any]]]) -> None:
        """Store results; existing ones are not changed. The last one makes the job successful.

        Args:
            unit: unit from :meth:`held`.
            rows: row indices and results.
        """
        places = [row for row, _ in rows]
        known = self.stored(unit.job, min(places), max(places) + 1)
        new = {row: data for row, data in reversed(rows) if row not in known}
        if not new:
            return
        done = unit.done + len(new)
        stored = [{"job": unit.job, "row": row, "data": data} for row, data in sorted(new.items())]
        self.connection.execute(insert(RESULTS), stored)
        self.tell(unit.job, "rows", {"rows": sorted(new), "done": done, "total": unit.of})
        if done == unit.of:
            self.end(unit.job, unit.job_id, State.SUCCESSFUL, {"rows": done}, done=done)
        else:
            self.update(unit.job, unit.job_id, done=done)

    def release(self, unit: Row[Any]) -> None:
        """Requeue a unit, or remove it if no row is left.

        Args:
            unit: row of the table of units.
        """
        left = self.left(unit)
        if left:
            self._wait(unit, left)
        else:
            self.remove(unit)

    def remove(self, unit: Row[Any]) -> None:
        """Remove a unit.

        Args:
            unit: row of the table of units.
        """
        self.connection.execute(delete(UNITS).where(UNITS.c.id == unit.id))

    def lose(self, unit: Row[Any], reason: str, status: str) -> None:
        """Handle the death of a worker: retry in halves, until the row that is the cause is alone.

        Args:
            unit: unit from :meth:`held`.
            reason: how the worker died.
            status: status for the row that turns out to be the cause.
        """
        self.next_turn(unit.job)
        left, losses = self.left(unit), unit.losses + 1
        if not left:
            self.remove(unit)
            return
        self.update(unit.job, unit.job_id, losses=JOBS.c.losses + 1, stage=None)
        self.tell(unit.job, "lost", {"reason": reason, "rows": ranges_of(left), "losses": losses})
        crashed = status == "worker-crashed"
        # Crashes of units with several rows do not count: workers killed at random would hit some rows three times.
        alone = len(rows_of(unit.rows)) == 1
        if len(left) == 1 and (not crashed or (alone and losses >= LOSSES)):
            message = f"Its worker died {losses} times, at last: {reason}. Try it alone, with fewer inputs."
            self.give_up(unit, left[0], status, message if crashed else f"{reason[0].upper()}{reason[1:]}.")
        else:
            self._halve(unit, left, losses=losses if alone else 0)

    def interrupt(self, unit: Row[Any]) -> None:
        """Requeue a unit after the service ended or lost track of it, which is not caused by its rows.

        Args:
            unit: unit from :meth:`held`.
        """
        if unit.rows is DAMAGED:
            self.fail_damaged(unit)
            return
        left, interruptions = self.left(unit), unit.interruptions + 1
        if not left:
            self.remove(unit)
            return
        self.update(unit.job, unit.job_id, stage=None)
        if interruptions < INTERRUPTIONS:
            self._wait(unit, left, interruptions=interruptions)
        elif len(left) == 1:
            message = f"The service ended {interruptions} times while it was computed. Try it alone, with fewer inputs."
            self.give_up(unit, left[0], "worker-crashed", message)
        else:
            self._halve(unit, left, interruptions=interruptions)

    def give_up(self, unit: Row[Any], row: int, status: str, message: str) -> None:
        """Give the last row of a unit a result that says why it has no numbers.

        Args:
            unit: unit from :meth:`held`.
            row: row index.
            status: status of the result.
            message: message of the result.
        """
        self.remove(unit)
        self.update(unit.job, unit.job_id, given_up=JOBS.c.given_up + 1)
        self.store(unit, [(row, refused_row(row, status, message))])

    def forget_given_up(self, number: int) -> int:
        """Delete the results of given-up rows and of rows found damaged when read.

        Args:
            number: number of the job.

        Returns:
            number of deleted results.
        """
        # The database compares text: results are megabytes, and a damaged one is no JSON to its functions.
        text = cast(RESULTS.c.data, Text)
        given_up = or_(*(text.contains(encode({"status": status})[1:-1], autoescape=True) for status in GIVEN_UP))
        return self.connection.execute(delete(RESULTS).where(RESULTS.c.job == number, given_up)).rowcount

    def empty(self, number: int) -> None:
        """Delete the units and the results of a job.

        Args:
            number: number of the job.
        """
        for table in (UNITS, RESULTS):
            self.connection.execute(delete(table).where(table.c.job == number))

    def number_of(self, job_id: str) -> int:
        """Return the number of an existing job.

        Args:
            job_id: id of the job.

        Returns:
            its primary key.
        """
        return self.connection.scalars(select(JOBS.c.number).where(JOBS.c.id == job_id)).one()

    def forget_damaged(self, job_id: str, row: int) -> dict[str, Any]:
        """Replace a damaged result by one without numbers; a new submission recomputes it.

        Args:
            job_id: id of the job.
            row: row index.

        Returns:
            the new result.
        """
        message = "The stored result was damaged. Post the request again: this row is computed again."
        result = refused_row(row, "damaged", message)
        place = (RESULTS.c.job == self.reopen(job_id)) & (RESULTS.c.row == row)
        self.connection.execute(update(RESULTS).where(place).values(data=result))
        return result

    def reopen(self, job_id: str) -> int:
        """Make a job not final, so that a new submission starts a new attempt.

        Args:
            job_id: id of the job.

        Returns:
            number of the job.
        """
        number = self.number_of(job_id)
        self.update(number, job_id, given_up=JOBS.c.given_up + 1)
        return number

    def fail_damaged(self, unit: Row[Any]) -> None:
        """Fail a job whose stored request is damaged.

        Args:
            unit: one of its units.
        """
        error = problem_of(DamagedStore("The stored request of this job is damaged. Post it again.")).document()
        self.end(unit.job, unit.job_id, State.FAILED, {"error": error}, error=error)

    def _halve(self, unit: Row[Any], left: list[int], **counts: int) -> None:
        half = (len(left) + 1) // 2
        self._wait(unit, left[:half], **counts)
        if left[half:]:
            same = ("job", "place", "phase", "cores", "bytes", "losses", "interruptions")
            rest = {name: getattr(unit, name) for name in same}
            self.connection.execute(insert(UNITS), rest | {"rows": ranges_of(left[half:]), **counts})

    def _wait(self, unit: Row[Any], left: list[int], **counts: int) -> None:
        free = {"rows": ranges_of(left), "owner": None, "fence": None, "until": None, **counts}
        self.connection.execute(update(UNITS).where(UNITS.c.id == unit.id).values(free))
