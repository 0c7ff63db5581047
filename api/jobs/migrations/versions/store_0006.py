"""Time of the store, and the service that uses it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_NOW = """
INSERT INTO store (id, time, wall) SELECT 1, max(updated), max(updated) FROM jobs HAVING max(updated) IS NOT NULL
"""


def upgrade() -> None:
    """Add the table and the column; the time starts at the latest known time."""
    op.create_table(
        "store",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("wall", sa.Double, nullable=False),
        sa.Column("owner", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_store"),
    )
    op.add_column("jobs", sa.Column("ended", sa.Double))
    op.execute("UPDATE jobs SET ended = finished")
    op.execute(_NOW)


def downgrade() -> None:
    """Drop the table and the column."""
    op.drop_column("jobs", "ended")
    op.drop_table("store")
