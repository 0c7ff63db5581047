"""Runs migrations on the connection that the job table hands over."""

from __future__ import annotations

from alembic import context

from api.jobs.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
