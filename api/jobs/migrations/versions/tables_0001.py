"""Jobs, their units, results and events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "jobs",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("unit", sa.String(64), nullable=False),
        sa.Column("facts", sa.JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("losses", sa.Integer, nullable=False),
        sa.Column("done", sa.Integer, nullable=False),
        sa.Column("stage", sa.JSON),
        sa.Column("error", sa.JSON),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("updated", sa.Double, nullable=False),
        sa.Column("started", sa.Double),
        sa.Column("finished", sa.Double),
        sa.Column("told", sa.Double),
        sa.PrimaryKeyConstraint("number", name="pk_jobs"),
    )
    op.create_index("ix_jobs_id", "jobs", ["id"], unique=True)
    op.create_index("ix_jobs_state", "jobs", ["state", "number"])
    op.create_table(
        "units",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("job", sa.Integer, nullable=False),
        sa.Column("place", sa.BigInteger, nullable=False),
        sa.Column("rows", sa.JSON, nullable=False),
        sa.Column("cores", sa.Integer, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("losses", sa.Integer, nullable=False),
        sa.Column("owner", sa.Text),
        sa.Column("fence", sa.BigInteger),
        sa.Column("until", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_units"),
        sa.ForeignKeyConstraint(["job"], ["jobs.number"], name="fk_units_job"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_units_queue", "units", ["until", "place", "id"])
    op.create_index("ix_units_job", "units", ["job"])
    op.create_table(
        "results",
        sa.Column("job", sa.Integer, nullable=False),
        sa.Column("row", sa.Integer, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("job", "row", name="pk_results"),
        sa.ForeignKeyConstraint(["job"], ["jobs.number"], name="fk_results_job"),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("job", sa.Integer, nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sa.ForeignKeyConstraint(["job"], ["jobs.number"], name="fk_events_job"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_job", "events", ["job", "id"])
    tickets = op.create_table(
        "tickets",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tickets"),
    )
    op.bulk_insert(tickets, [{"id": 1, "last": 0}])


def downgrade() -> None:
    """Drop the tables."""
    for table in ("tickets", "events", "results", "units", "jobs"):
        op.drop_table(table)
