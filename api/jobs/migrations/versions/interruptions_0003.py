"""Interruptions of units, given-up rows, and summaries of requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_COUNT = """
UPDATE jobs SET given_up = (
    SELECT count(*) FROM results
    WHERE results.job = jobs.number AND CAST(results.data AS TEXT) LIKE '%"worker-crashed"%'
) WHERE losses > 0
"""


def upgrade() -> None:
    """Add the columns, and count the rows given up before."""
    for table, name in (("units", "interruptions"), ("jobs", "given_up")):
        op.add_column(table, sa.Column(name, sa.Integer, nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("summary", sa.JSON))
    op.execute(_COUNT)


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("jobs", "summary")
    op.drop_column("jobs", "given_up")
    op.drop_column("units", "interruptions")
