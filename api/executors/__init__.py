"""Executors of units of work."""
