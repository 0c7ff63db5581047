"""Frozen specifications with a content hash, and results. Does not import JAX."""
