"""Checksum in each JSON value."""

from __future__ import annotations

import json
from collections.abc import Callable

import sqlalchemy as sa
from alembic import op

from api.seals import sealed

revision = "0004"
down_revision = "0003"

_COLUMNS = {
    "jobs": ("request", "facts", "summary", "stage", "error"),
    "units": ("rows",),
    "results": ("data",),
    "events": ("data",),
}
_KEYS = {"jobs": ("number",), "units": ("id",), "results": ("job", "row"), "events": ("id",)}
_AT_ONCE = 1_000


def upgrade() -> None:
    """Rewrite all values with checksums."""
    _rewrite(lambda text: sealed(json.loads(text)))


def downgrade() -> None:
    """Remove the checksums."""
    _rewrite(lambda text: json.dumps(json.loads(text)[1]))


def _rewrite(convert: Callable[[str], str]) -> None:
    connection = op.get_bind()
    sqlite = connection.dialect.name == "sqlite"  # SQLite stores JSON as text, and would cast it to a number
    for table_name, columns in _COLUMNS.items():
        for name in columns:
            keys = [sa.column(key, sa.Integer) for key in _KEYS[table_name]]
            value = sa.column(name, sa.Text if sqlite else sa.JSON)
            table = sa.table(table_name, *keys, value)
            new = sa.bindparam("value", type_=sa.Text)
            change = sa.update(table).where(*(key == sa.bindparam(f"at_{key.name}") for key in keys))
            change = change.values({name: new if sqlite else sa.cast(new, sa.JSON)})
            found = sa.select(*keys, value if sqlite else sa.cast(value, sa.Text)).where(value.is_not(None))
            for part in connection.execute(found).partitions(_AT_ONCE):
                values = [
                    {f"at_{key.name}": at for key, at in zip(keys, row, strict=False)} | {"value": convert(row[-1])}
                    for row in part
                ]
                connection.execute(change, values)
