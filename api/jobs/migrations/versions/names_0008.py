"""Names and tags of jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the tables; jobs of earlier versions have neither."""
    op.create_table(
        "names",
        sa.Column("job", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("folded", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("job", name="pk_names"),
        sa.ForeignKeyConstraint(["job"], ["jobs.number"], name="fk_names_job"),
    )
    op.create_table(
        "tags",
        sa.Column("tag", sa.String(50), nullable=False),
        sa.Column("job", sa.Integer, nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("tag", "job", name="pk_tags"),
        sa.ForeignKeyConstraint(["job"], ["jobs.number"], name="fk_tags_job"),
    )
    op.create_index("ix_tags_job", "tags", ["job"])


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("tags")
    op.drop_table("names")
