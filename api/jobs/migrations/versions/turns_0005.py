"""Turns of jobs in the queue."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_OPEN = """
UPDATE jobs SET turn = (SELECT min(place) FROM units WHERE units.job = jobs.number)
WHERE state IN ('accepted', 'running')
"""


def upgrade() -> None:
    """Add the column; jobs are ordered by their first units."""
    op.add_column("jobs", sa.Column("turn", sa.BigInteger))
    op.create_index("ix_jobs_turn", "jobs", ["turn"])
    op.drop_index("ix_units_job", "units")
    op.drop_index("ix_units_queue", "units")
    op.create_index("ix_units_until", "units", ["until", "place", "id"])
    op.create_index("ix_units_queue", "units", ["job", "until", "place", "id"])
    op.execute(_OPEN)


def downgrade() -> None:
    """Drop the column."""
    op.drop_index("ix_units_queue", "units")
    op.drop_index("ix_units_until", "units")
    op.create_index("ix_units_queue", "units", ["until", "place", "id"])
    op.create_index("ix_units_job", "units", ["job"])
    op.drop_index("ix_jobs_turn", "jobs")
    op.drop_column("jobs", "turn")
