"""Frozen specifications with a content hash, and the estimates that come back. No JAX here."""
