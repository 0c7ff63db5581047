"""Tables. A change here needs a migration beside it; a test compares the two."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Double, ForeignKey, Index, Integer, MetaData, String, Table, Text

METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s",
    }
)
_JSON = JSON(none_as_null=True)

# A job's number is what other tables refer to: 64 characters of hash beside each of 100,000 rows would be most of them.
JOBS = Table(
    "jobs",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("id", String(64), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("request", _JSON, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("unit", String(64), nullable=False),
    Column("facts", _JSON, nullable=False),
    Column("summary", _JSON),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("done", Integer, nullable=False),
    Column("given_up", Integer, nullable=False, server_default="0"),  # rows that have a status and no number
    Column("stage", _JSON),
    Column("error", _JSON),
    Column("request_id", String(64)),  # of the request that began its attempt
    Column("version", Integer, nullable=False),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
    Column("started", Double),
    Column("finished", Double),
    Column("told", Double),  # when the last event of progress was
    Column("ended", Double),  # by the store's time, from which its age is counted
    Column("turn", BigInteger),  # in the order of jobs that wait; null if it has ended
    Index("ix_jobs_id", "id", unique=True),
    Index("ix_jobs_state", "state", "number"),
    Index("ix_jobs_turn", "turn"),
)

# A unit waits while fence and until are null. Units of a job are served by ascending place; the halves of a bisected
# unit keep its place. Rows are ranges, those with results among them: a record need not write them anew.
UNITS = Table(
    "units",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("job", Integer, ForeignKey("jobs.number"), nullable=False),
    Column("place", BigInteger, nullable=False),
    Column("rows", _JSON, nullable=False),
    Column("cores", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("interruptions", Integer, nullable=False, server_default="0"),
    Column("owner", Text),
    Column("fence", BigInteger),
    Column("until", Double),  # of the monotonic clock
    Index("ix_units_until", "until", "place", "id"),
    Index("ix_units_queue", "job", "until", "place", "id"),
    sqlite_autoincrement=True,  # else the number of a unit that is gone would be given to another
)

RESULTS = Table(
    "results",
    METADATA,
    Column("job", Integer, ForeignKey("jobs.number"), primary_key=True),
    Column("row", Integer, primary_key=True),
    Column("data", _JSON, nullable=False),
)

EVENTS = Table(
    "events",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("job", Integer, ForeignKey("jobs.number"), nullable=False),
    Column("type", String(16), nullable=False),
    Column("data", _JSON, nullable=False),
    Column("created", Double, nullable=False),
    Index("ix_events_job", "job", "id"),
    sqlite_autoincrement=True,
)

# One row: the last number that was given to a place in the queue, a turn or a claim. Whoever writes locks it first
# where a database lets several write at once.
TICKETS = Table(
    "tickets", METADATA, Column("id", Integer, primary_key=True), Column("last", BigInteger, nullable=False)
)

# One row: the store's time and the clock's, when it was written down, and the service that uses the database.
STORE = Table(
    "store",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("time", Double, nullable=False),
    Column("wall", Double, nullable=False),
    Column("owner", Text),
)
