"""Flatness measures, one module each, registered on import."""
