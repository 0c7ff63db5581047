"""Checkpoint file of a long computation."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

_INTERVAL = 10.0  # minimum time between two saves, seconds
_SHARE = 0.05  # maximum fraction of the time spent on saving


class Checkpoint:
    """Saves at least ten seconds apart, in at most a twentieth of the time.

    Args:
        path: path of the file; None to save nothing.
        save: writes the state of the computation to the file.
    """

    def __init__(self, path: Path | None, save: Callable[[Path], None]) -> None:
        self._path, self._save = path, save
        self._saved, self._seconds = time.perf_counter(), 0.0

    def save_if_due(self) -> None:
        """Save unless the last save was a short time ago."""
        if time.perf_counter() - self._saved >= max(_INTERVAL, self._seconds / _SHARE):
            self.save()

    def save(self) -> None:
        """Save now."""
        if self._path is None:
            return
        began = time.perf_counter()
        self._save(self._path)
        self._saved = time.perf_counter()
        self._seconds = self._saved - began
