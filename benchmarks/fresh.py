"""Functions run in a process of their own, whose peak memory is theirs alone: a peak cannot be taken back.

On Linux the figures are ``VmHWM`` and ``VmRSS``: ``ru_maxrss`` can be the peak of the process that started this one.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_STATUS = Path("/proc/self/status")


def fresh(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The function's result, from a new interpreter; it must be importable, and everything must pickle."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


def peak_gb() -> float:
    """The largest resident set of this process so far, in units of 1e9 bytes."""
    if _STATUS.exists():
        return _status("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def forget_peak() -> None:
    """Let :func:`peak_gb` tell the largest from now on; where the system does not allow it, nothing is forgotten."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def resident_gb() -> float:
    """The resident set of this process now; where the system does not tell, the largest so far."""
    return _status("VmRSS") if _STATUS.exists() else peak_gb()


def _status(name: str) -> float:
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return int(lines[name].split()[0]) * 1024 / 1e9
