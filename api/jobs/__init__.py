"""Durable job table, the service's single source of truth."""
