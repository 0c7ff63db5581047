"""What can be done to jobs and their units inside one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from api.jobs.models import Lease, State
from api.jobs.row_ranges import ranges_of, rows_of
from api.jobs.schema import EVENTS, JOBS, RESULTS, TICKETS, UNITS
from api.problems import DamagedStore, problem_of
from api.seals import DAMAGED
from nngp_prior.schemas.results.base import GIVEN_UP, refused_row

LOSSES = 3
"""Workers that a row may take with it while it is alone in its unit."""
INTERRUPTIONS = 100
"""Times that the service may end while it computes a unit: what takes the whole service with it is found in the end."""

_HELD = select(
    UNITS, JOBS.c.id.label("job_id"), JOBS.c.rows.label("of"), JOBS.c.done, JOBS.c.told, JOBS.c.request_id
).join(JOBS)


class Transaction:
    """A transaction that writes.

    Args:
        connection: in a transaction.
        now: the time, the same for all that it writes.
        steady: seconds of the monotonic clock, by which leases end.
        age: the store's time.

    Attributes:
        jobs: ids of those that it changed.
    """

    def __init__(self, connection: Connection, now: float, steady: float, age: float) -> None:
        self.connection, self.now, self.steady, self.age = connection, now, steady, age
        self.jobs: set[str] = set()

    def held(self, lease: Lease) -> Row[Any] | None:
        """The unit of a lease, with what is needed of its job.

        Args:
            lease: that was given once.

        Returns:
            None if it ended: that is the fence.
        """
        theirs = (UNITS.c.id == lease.unit) & (UNITS.c.fence == lease.fence)
        return self.connection.execute(_HELD.where(theirs)).one_or_none()

    def all_held(self) -> Sequence[Row[Any]]:
        """The units of all leases.

        Returns:
            each as :meth:`held`.
        """
        return self.connection.execute(_HELD.where(UNITS.c.fence.is_not(None)).order_by(UNITS.c.id)).all()

    def overdue(self) -> Row[Any] | None:
        """The unit whose lease ran out first.

        Returns:
            as :meth:`held`; None if all leases hold.
        """
        oldest = _HELD.where(UNITS.c.until < self.steady).order_by(UNITS.c.until, UNITS.c.place, UNITS.c.id)
        return self.connection.execute(oldest.limit(1)).one_or_none()

    def tickets(self, count: int = 1) -> int:
        """Numbers that were never given before.

        Args:
            count: how many.

        Returns:
            the last of them.
        """
        return self.connection.execute(
            update(TICKETS).values(last=TICKETS.c.last + count).returning(TICKETS.c.last)
        ).scalar_one()

    def update(self, number: int, job_id: str, **values: Any) -> None:
        """Change a job.

        Args:
            number: of the job.
            job_id: of the same.
            values: of its columns.
        """
        values |= {"version": JOBS.c.version + 1, "updated": self.now}
        self.connection.execute(update(JOBS).where(JOBS.c.number == number).values(values))
        self.jobs.add(job_id)

    def next_turn(self, number: int) -> None:
        """Put a job behind all others that wait: it was served.

        Args:
            number: of the job; one that has ended stays as it is.
        """
        waits = (JOBS.c.number == number) & JOBS.c.turn.is_not(None)
        self.connection.execute(update(JOBS).where(waits).values(turn=self.tickets()))

    def next_unit(self, but: str | None = None) -> Row[Any] | None:
        """The first waiting unit of the job whose turn it is.

        Args:
            but: id of a job that is passed over.

        Returns:
            with what a lease needs of its job; None if nothing waits.
        """
        waits = select(UNITS.c.id).where(UNITS.c.job == JOBS.c.number, UNITS.c.until.is_(None)).exists()
        jobs = select(JOBS.c.number).where(JOBS.c.turn.is_not(None), waits).order_by(JOBS.c.turn)
        if but is not None:
            jobs = jobs.where(JOBS.c.id != but)
        number = self.connection.execute(jobs.limit(1)).scalar_one_or_none()
        if number is None:
            return None
        unit = select(UNITS, JOBS.c.id.label("job_id"), JOBS.c.kind, JOBS.c.request, JOBS.c.state).join(JOBS)
        unit = unit.where(UNITS.c.job == number, UNITS.c.until.is_(None)).order_by(UNITS.c.place, UNITS.c.id)
        return self.connection.execute(unit.limit(1)).one()

    def tell(self, number: int, type_: str, data: dict[str, Any]) -> None:
        """Add an event.

        Args:
            number: of the job.
            type_: of the event.
            data: what there is to say.
        """
        row = {"job": number, "type": type_, "data": data, "created": self.now}
        self.connection.execute(insert(EVENTS), row)

    def end(self, number: int, job_id: str, state: State, data: dict[str, Any], **values: Any) -> None:
        """Bring a job to its end; it has no units any more, and how it came there is of no interest.

        Args:
            number: of the job.
            job_id: of the same.
            state: its last.
            data: of the event.
            values: of other columns.
        """
        self.connection.execute(delete(UNITS).where(UNITS.c.job == number))
        self.connection.execute(delete(EVENTS).where(EVENTS.c.job == number, EVENTS.c.type == "progress"))
        self.update(number, job_id, state=state, stage=None, turn=None, finished=self.now, ended=self.age, **values)
        self.tell(number, state, data)

    def left(self, unit: Row[Any]) -> list[int]:
        """Rows of a unit that have no result yet.

        Args:
            unit: of the table.

        Returns:
            them in order.
        """
        return rows_of(unit.rows, self.stored(unit.job, unit.rows[0][0], unit.rows[-1][1]))

    def stored(self, number: int, first: int, end: int) -> set[int]:
        """Rows that have results.

        Args:
            number: of the job.
            first: the first row to look at.
            end: the one after the last.

        Returns:
            them.
        """
        inside = (RESULTS.c.job == number) & (RESULTS.c.row >= first) & (RESULTS.c.row < end)
        return set(self.connection.scalars(select(RESULTS.c.row).where(inside)))

    def store(self, unit: Row[Any], rows: Sequence[tuple[int, dict[str, Any]]]) -> None:
        """Keep results; those that are there already stay as they are. The last one makes the job successful.

        Args:
            unit: as :meth:`held` gives it.
            rows: places and results.
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
        """Let a unit wait again, or go if nothing of it is left.

        Args:
            unit: of the table.
        """
        left = self.left(unit)
        if left:
            self._wait(unit, left)
        else:
            self.remove(unit)

    def remove(self, unit: Row[Any]) -> None:
        """Take a unit away.

        Args:
            unit: of the table.
        """
        self.connection.execute(delete(UNITS).where(UNITS.c.id == unit.id))

    def lose(self, unit: Row[Any], reason: str, status: str) -> None:
        """A worker died at a unit: try again in halves, until the row that kills is alone.

        Args:
            unit: as :meth:`held` gives it.
            reason: how it died.
            status: of the row that turns out to be the cause.
        """
        self.next_turn(unit.job)
        left, losses = self.left(unit), unit.losses + 1
        if not left:
            self.remove(unit)
            return
        self.update(unit.job, unit.job_id, losses=JOBS.c.losses + 1, stage=None)
        self.tell(unit.job, "lost", {"reason": reason, "rows": ranges_of(left), "losses": losses})
        crashed = status == "worker-crashed"
        # Deaths that others share say little of a row: whoever kills workers at random would hit some thrice.
        alone = len(rows_of(unit.rows)) == 1
        if len(left) == 1 and (not crashed or (alone and losses >= LOSSES)):
            message = f"Its worker died {losses} times, at last: {reason}. Try it alone, with fewer inputs."
            self.give_up(unit, left[0], status, message if crashed else f"{reason[0].upper()}{reason[1:]}.")
        else:
            self._halve(unit, left, losses=losses if alone else 0)

    def interrupt(self, unit: Row[Any]) -> None:
        """The service ended, or lost sight of a unit, which is not the fault of the unit's rows: it waits again.

        Args:
            unit: as :meth:`held` gives it.
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
        """Give the last row of a unit a result that says why it has no other.

        Args:
            unit: as :meth:`held` gives it.
            row: its place.
            status: of the result.
            message: of the result.
        """
        self.remove(unit)
        self.update(unit.job, unit.job_id, given_up=JOBS.c.given_up + 1)
        self.store(unit, [(row, refused_row(row, status, message))])

    def forget_given_up(self, number: int) -> int:
        """Delete the results of rows that were given up, and damaged ones.

        Args:
            number: of the job.

        Returns:
            how many.
        """
        results = self.connection.execute(select(RESULTS.c.row, RESULTS.c.data).where(RESULTS.c.job == number))
        rows = [row for row, data in results if data is DAMAGED or data.get("status") in GIVEN_UP]
        for row in rows:
            self.connection.execute(delete(RESULTS).where(RESULTS.c.job == number, RESULTS.c.row == row))
        return len(rows)

    def empty(self, number: int) -> None:
        """Delete the units and the results of a job.

        Args:
            number: of the job.
        """
        for table in (UNITS, RESULTS):
            self.connection.execute(delete(table).where(table.c.job == number))

    def number_of(self, job_id: str) -> int:
        """Number of a job that there is.

        Args:
            job_id: of the job.

        Returns:
            its primary key.
        """
        return self.connection.scalars(select(JOBS.c.number).where(JOBS.c.id == job_id)).one()

    def forget_damaged(self, job_id: str, row: int) -> dict[str, Any]:
        """Replace a damaged result by one without numbers; submitting the job again computes it.

        Args:
            job_id: of the job.
            row: place of the result.

        Returns:
            the new result.
        """
        message = "The stored result was damaged. Post the request again: this row is computed again."
        result = refused_row(row, "damaged", message)
        place = (RESULTS.c.job == self.reopen(job_id)) & (RESULTS.c.row == row)
        self.connection.execute(update(RESULTS).where(place).values(data=result))
        return result

    def reopen(self, job_id: str) -> int:
        """Make a job one that is not final: submitting it again begins a new attempt.

        Args:
            job_id: of the job.

        Returns:
            its number.
        """
        number = self.number_of(job_id)
        self.update(number, job_id, given_up=JOBS.c.given_up + 1)
        return number

    def fail_damaged(self, unit: Row[Any]) -> None:
        """End a job whose stored request cannot be read any more.

        Args:
            unit: one of its units.
        """
        error = problem_of(DamagedStore("The stored request of this job is damaged. Post it again.")).document()
        self.end(unit.job, unit.job_id, State.FAILED, {"error": error}, error=error)

    def _halve(self, unit: Row[Any], left: list[int], **counts: int) -> None:
        half = (len(left) + 1) // 2
        self._wait(unit, left[:half], **counts)
        if left[half:]:
            same = ("job", "place", "cores", "bytes", "losses", "interruptions")
            rest = {name: getattr(unit, name) for name in same}
            self.connection.execute(insert(UNITS), rest | {"rows": ranges_of(left[half:]), **counts})

    def _wait(self, unit: Row[Any], left: list[int], **counts: int) -> None:
        free = {"rows": ranges_of(left), "owner": None, "fence": None, "until": None, **counts}
        self.connection.execute(update(UNITS).where(UNITS.c.id == unit.id).values(free))
