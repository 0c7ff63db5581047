"""Id of the folder that several services share; numbers of units and events beyond 2^31."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_COUNTED = ("units", "events")


def upgrade() -> None:
    """Add the column, and widen the numbers where integers have 32 bits."""
    op.add_column("store", sa.Column("folder", sa.Text))
    _change(sa.BigInteger, "bigint")


def downgrade() -> None:
    """Drop the column, and narrow the numbers."""
    op.drop_column("store", "folder")
    _change(sa.Integer, "integer")


def _change(type_: type[sa.Integer], name: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        return
    for table in _COUNTED:
        op.alter_column(table, "id", type_=type_)
        op.execute(f"ALTER SEQUENCE {table}_id_seq AS {name}")
