"""Table definitions. Changes need a migration; a test compares the two."""

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
_SERIAL = BigInteger().with_variant(Integer, "sqlite")  # SQLite's INTEGER has 64 bits, and counts only as that

# Other tables refer to a job by number: a 64-character hash would be most of the size of each of 100,000 rows.
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
    Column("given_up", Integer, nullable=False, server_default="0"),  # rows with a status and no number
    Column("stage", _JSON),
    Column("error", _JSON),
    Column("request_id", String(64)),  # of the request that started the attempt
    Column("version", Integer, nullable=False),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
    Column("started", Double),
    Column("finished", Double),
    Column("told", Double),  # time of the last progress event
    Column("ended", Double),  # store time of the end, from which the age is counted
    Column("turn", BigInteger),  # position among waiting jobs; null after the end
    Index("ix_jobs_id", "id", unique=True),
    Index("ix_jobs_state", "state", "number"),
    Index("ix_jobs_turn", "turn"),
)

# Names and tags are kept apart from the jobs, whose rows may hold megabytes: filters read these tables alone. Their
# primary keys have the order of pages.
NAMES = Table(
    "names",
    METADATA,
    Column("job", Integer, ForeignKey("jobs.number"), primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("folded", Text, nullable=False),  # without differences of case
)

TAGS = Table(
    "tags",
    METADATA,
    Column("tag", String(50), primary_key=True),
    Column("job", Integer, ForeignKey("jobs.number"), primary_key=True, autoincrement=False),
    Index("ix_tags_job", "job"),
)

# A unit waits while fence and until are null. Units of a job are served by ascending place; those of a phase wait until
# no unit of an earlier phase is left. The halves of a bisected unit keep its place and its phase. Rows are stored as
# ranges and include those with results, so recording a result need not rewrite them.
UNITS = Table(
    "units",
    METADATA,
    Column("id", _SERIAL, primary_key=True),
    Column("job", Integer, ForeignKey("jobs.number"), nullable=False),
    Column("place", BigInteger, nullable=False),
    Column("rows", _JSON, nullable=False),
    Column("cores", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("interruptions", Integer, nullable=False, server_default="0"),
    Column("phase", Integer, nullable=False, server_default="0"),
    Column("owner", Text),
    Column("fence", BigInteger),
    Column("until", Double),  # clock of leases
    Index("ix_units_until", "until", "place", "id"),
    Index("ix_units_queue", "job", "until", "place", "id"),
    Index("ix_units_phase", "job", "phase"),
    sqlite_autoincrement=True,  # otherwise the number of a deleted unit could be reused
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
    Column("id", _SERIAL, primary_key=True),
    Column("job", Integer, ForeignKey("jobs.number"), nullable=False),
    Column("type", String(16), nullable=False),
    Column("data", _JSON, nullable=False),
    Column("created", Double, nullable=False),
    Index("ix_events_job", "job", "id"),
    sqlite_autoincrement=True,
)

# One row: the last number issued for a queue position, a turn or a claim. In databases with several writers, a writer
# locks this row first.
TICKETS = Table(
    "tickets", METADATA, Column("id", Integer, primary_key=True), Column("last", BigInteger, nullable=False)
)

# One row: store time and wall-clock time when last saved; the service that uses the database or, of several, the digest
# of their versions; and the id of the folder with uploads and kernels that several services share.
STORE = Table(
    "store",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("time", Double, nullable=False),
    Column("wall", Double, nullable=False),
    Column("owner", Text),
    Column("folder", Text),
)
