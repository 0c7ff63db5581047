"""Flatness measures, one module each; modules register their measures when they are imported."""
