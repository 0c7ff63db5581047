"""Id of the request that submitted a job."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column."""
    op.add_column("jobs", sa.Column("request_id", sa.String(64)))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("jobs", "request_id")
