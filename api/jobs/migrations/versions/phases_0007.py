"""Phases of units, of which later ones wait for earlier ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column; units of earlier versions do not depend on one another."""
    op.add_column("units", sa.Column("phase", sa.Integer, nullable=False, server_default="0"))
    op.create_index("ix_units_phase", "units", ["job", "phase"])


def downgrade() -> None:
    """Drop the column."""
    op.drop_index("ix_units_phase", "units")
    op.drop_column("units", "phase")
