"""Run migrations on the job table's connection."""

from __future__ import annotations

from alembic import context

from api.jobs.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
