"""Read access to the job table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Connection, Select, Text, cast, func, literal, select

from api.jobs.cursor import cursor_of, number_of
from api.jobs.database import open_database
from api.jobs.models import OPEN, Event, Job, State
from api.jobs.schema import EVENTS, JOBS, NAMES, RESULTS, TAGS, UNITS
from api.problems import DamagedStore
from api.seals import DAMAGED
from nngp_prior.schemas.job_names import JobNames

_PAGE = 500  # results per query
# Requests and facts may hold megabytes of inputs; they are read only if needed.
_READ = [column for column in JOBS.c if column.name not in {"number", "told", "turn", "ended", "request", "facts"}]
_NAME, _TAG = NAMES.alias(), TAGS.alias()
_SEPARATOR = "\n"  # no tag has one
_OF_JOB = [
    *_READ,
    select(_NAME.c.name).where(_NAME.c.job == JOBS.c.number).scalar_subquery(),
    select(func.aggregate_strings(_TAG.c.tag, _SEPARATOR)).where(_TAG.c.job == JOBS.c.number).scalar_subquery(),
]


class Queries(ABC):
    """Jobs, their results and their events. Each method is one transaction.

    Args:
        url: SQLAlchemy URL of the database; tables are created or migrated.
        password_file: file with the password of the database, instead of one in the URL.

    Attributes:
        database: the database.
    """

    def __init__(self, url: str, *, password_file: Path | None = None) -> None:
        self.database = open_database(url, password_file)

    def get(self, job_id: str) -> Job | None:
        """Get a job.

        Args:
            job_id: id of the job.

        Returns:
            the job; None if there is none.
        """
        with self.database.read() as connection:
            return find(connection, job_id)

    def request(self, job_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Get the request of a job, and the facts about its results as a whole.

        Args:
            job_id: id of an existing job.

        Returns:
            request and facts, as JSON objects.

        Raises:
            DamagedStore: if either is damaged.
        """
        with self.database.read() as connection:
            row = connection.execute(select(JOBS.c.request, JOBS.c.facts).where(JOBS.c.id == job_id)).one()
        if DAMAGED in tuple(row):
            raise DamagedStore("The stored request of this job is damaged. Post it again.")
        return row.request, row.facts

    def requests(self, kind: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Yield the requests and facts of all jobs of a kind, without damaged ones.

        Args:
            kind: kind of work.

        Yields:
            request and facts, as JSON objects.
        """
        with self.database.read() as connection:
            found = connection.execute(select(JOBS.c.request, JOBS.c.facts).where(JOBS.c.kind == kind)).all()
        yield from (tuple(row) for row in found if DAMAGED not in tuple(row))

    def glance(self, job_id: str) -> tuple[State, int] | None:
        """Get the state and the version of a job, the cheapest query.

        Args:
            job_id: id of the job.

        Returns:
            state and version; None if there is none.
        """
        with self.database.read() as connection:
            row = connection.execute(select(JOBS.c.state, JOBS.c.version).where(JOBS.c.id == job_id)).one_or_none()
        return None if row is None else (State(row.state), row.version)

    def list(
        self,
        state: State | str | None = None,
        limit: int = 50,
        cursor: str | None = None,
        *,
        name: str | None = None,
        tags: Collection[str] = (),
    ) -> tuple[list[Job], str | None]:
        """List jobs, newest first.

        Args:
            state: only jobs in this state.
            limit: largest number of jobs.
            cursor: cursor returned by the previous call.
            name: only jobs whose name contains this text; upper and lower case are equal.
            tags: only jobs with all these tags.

        Returns:
            jobs, and the cursor for the next call; None after the last page.
        """
        before = None if cursor is None else number_of(cursor)
        query = listed(None if state is None else State(state), before, name, tags).limit(limit + 1)
        with self.database.read() as connection:
            found = connection.execute(query).all()
        more = len(found) > limit
        return [_job(row[1:]) for row in found[:limit]], cursor_of(found[limit - 1].number) if more else None

    def outdated(self, versions: dict[str, str]) -> list[Job]:
        """List open jobs planned under other versions; some of their rows may have been computed.

        Args:
            versions: current versions of everything that numbers depend on.

        Returns:
            the jobs, including those with damaged facts.
        """
        found = []
        with self.database.read() as connection:
            query = select(JOBS.c.facts, *_OF_JOB).where(JOBS.c.state.in_(OPEN)).order_by(JOBS.c.number)
            for facts, *row in connection.execute(query):
                if facts is DAMAGED or facts.get("versions", versions) != versions:
                    found.append(_job(row))
        return found

    def job_with(self, text: str) -> str | None:
        """Find an open job whose request contains a text.

        Args:
            text: part of the stored JSON text.

        Returns:
            the id of one such job; None if there is none.
        """
        requests = select(JOBS.c.id, cast(JOBS.c.request, Text)).where(JOBS.c.state.in_(OPEN))
        with self.database.read() as connection:
            return next((job_id for job_id, request in connection.execute(requests) if text in request), None)

    def open_jobs(self) -> int:
        """Count the accepted and running jobs.

        Returns:
            their number.
        """
        with self.database.read() as connection:
            return connection.execute(select(func.count()).where(JOBS.c.state.in_(OPEN))).scalar_one()

    def results(self, job_id: str, rows: Sequence[int] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the stored results of a job, ordered by row.

        Stored results never change, so no transaction stays open between pages, and a slow reader blocks no writer.

        Args:
            job_id: id of the job.
            rows: only these rows; default: all.

        Yields:
            row index and result.
        """
        query = select(RESULTS.c.row, RESULTS.c.data).join(JOBS).where(JOBS.c.id == job_id).order_by(RESULTS.c.row)
        if rows is not None:
            wanted = sorted(set(rows))
            for i in range(0, len(wanted), _PAGE):
                with self.database.read() as connection:
                    found = connection.execute(query.where(RESULTS.c.row.in_(wanted[i : i + _PAGE]))).all()
                yield from self._intact(job_id, found)
            return
        last = -1
        while last is not None:
            with self.database.read() as connection:
                found = connection.execute(query.where(RESULTS.c.row > last).limit(_PAGE)).all()
            yield from self._intact(job_id, found)
            last = found[-1].row if found else None

    def _intact(self, job_id: str, found: Sequence[Any]) -> Iterator[tuple[int, dict[str, Any]]]:
        for row, data in found:
            yield row, self._forget_damaged(job_id, row) if data is DAMAGED else data

    @abstractmethod
    def _forget_damaged(self, job_id: str, row: int) -> dict[str, Any]:
        """Replace a damaged result, which writes to the table; return the new result."""

    def events(self, job_id: str, after: int = 0) -> list[Event]:
        """List the events of a job's current attempt.

        Args:
            job_id: id of the job.
            after: id of the last known event.

        Returns:
            later events, in order.
        """
        query = select(EVENTS).join(JOBS).where(JOBS.c.id == job_id, EVENTS.c.id > after).order_by(EVENTS.c.id)
        with self.database.read() as connection:
            found = connection.execute(query).all()
        return [Event(row.id, row.type, row.data, _utc(row.created)) for row in found if row.data is not DAMAGED]

    def counts(self) -> dict[str, int]:
        """Count jobs by state, and units: ``units_waiting``, ``units_running``.

        Returns:
            counts by name.
        """
        with self.database.read() as connection:
            jobs = connection.execute(select(JOBS.c.state, func.count()).group_by(JOBS.c.state)).all()
            units = connection.execute(select(func.count(), func.count(UNITS.c.fence))).one()
        found = {str(state): count for state, count in jobs}
        return {
            **{state: found.get(state, 0) for state in State},
            "units_waiting": units[0] - units[1],
            "units_running": units[1],
        }

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def listed(
    state: State | None, before: int | None, name: str | None, tags: Collection[str]
) -> Select[*tuple[Any, ...]]:
    """Return the query of a list of jobs, newest first; arguments as of :meth:`Queries.list`.

    Args:
        state: only jobs in this state.
        before: only jobs with smaller numbers.
        name: only jobs whose name contains this text.
        tags: only jobs with all these tags.

    Returns:
        query for the number of each job and its columns. An index leads from tags to their jobs, in order.
    """
    query, number = select(JOBS.c.number, *_OF_JOB), JOBS.c.number
    for tag in dict.fromkeys(tags):
        has = TAGS.alias()
        query = query.join(has, (has.c.job == number) & (has.c.tag == tag))
        number = has.c.job
    if name is not None:
        query = query.join(NAMES, NAMES.c.job == number).where(NAMES.c.folded.contains(folded(name), autoescape=True))
        if not tags and state is None:
            number = NAMES.c.job  # SQLite would otherwise read all jobs for their names
    if state is not None:
        query = query.where(JOBS.c.state == state)
    if before is not None:
        query = query.where(number < literal(before, BigInteger))
    return query.order_by(number.desc())


def folded(name: str) -> str:
    """Return a name without differences of case, for comparisons."""
    return name.casefold()


def find(connection: Connection, job_id: str) -> Job | None:
    """Get a job by its id.

    Args:
        connection: connection in a transaction.
        job_id: id of the job.

    Returns:
        the job; None if there is none.
    """
    row = connection.execute(select(*_OF_JOB).where(JOBS.c.id == job_id)).one_or_none()
    return None if row is None else _job(row)


def _job(row: Sequence[Any]) -> Job:
    *columns, stored_name, stored_tags = row
    values = dict(zip((column.name for column in _READ), columns, strict=True))
    values |= {name: None for name in ("summary", "stage", "error") if values[name] is DAMAGED}
    try:
        values["state"] = State(values["state"])
        for name in ("created", "updated", "started", "finished"):
            values[name] = _utc(values[name])
    except (ValueError, TypeError, OverflowError, OSError) as error:
        raise DamagedStore(f"The stored state of the job {values['id']} is damaged ({error}).") from error
    return Job(**values, names=_names(stored_name, stored_tags))


def _names(name: str | None, tags: str | None) -> JobNames:
    """Return stored names, whose damaged bytes are replaced."""
    found = [each.encode(errors="surrogateescape").decode(errors="replace") for each in (name or "", tags or "")]
    split = sorted(found[1].split(_SEPARATOR)) if found[1] else []
    return JobNames.model_construct(name=found[0] or None, tags=tuple(split))


def _utc(seconds: float | None) -> Any:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
