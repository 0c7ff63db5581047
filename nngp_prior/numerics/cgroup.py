"""Memory and processors that this process may use: the machine's, or those of its container if that has fewer.

Inside a container, ``/sys/fs/cgroup`` shows the container's own limits, which ``psutil`` and ``os`` do not know:
control groups of version 2 have one folder, those of version 1 a folder per resource.
"""

from __future__ import annotations

import functools
import math
import os
from contextlib import suppress
from pathlib import Path

import psutil

_GROUP = Path("/sys/fs/cgroup")


def memory_bytes(group: Path = _GROUP) -> int:
    """Return the memory that this process may use, bytes.

    Args:
        group: folder of the control group.
    """
    limits = (_numbers(group / "memory.max"), _numbers(group / "memory" / "memory.limit_in_bytes"))
    return min([psutil.virtual_memory().total, *(limit[0] for limit in limits if limit)])


def processors(group: Path = _GROUP) -> int:
    """Return the number of processors that this process may use; a fraction of one counts as one.

    Args:
        group: folder of the control group.
    """
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([here, *_quotas(group)])


@functools.cache  # computations ask often, and a container's quota hardly ever changes
def _quotas(group: Path) -> tuple[int, ...]:
    """Return the group's limits on processors: time per period, rounded up."""
    limits = (
        _numbers(group / "cpu.max"),
        _numbers(group / "cpu" / "cpu.cfs_quota_us") + _numbers(group / "cpu" / "cpu.cfs_period_us"),
    )
    return tuple(math.ceil(limit[0] / limit[1]) for limit in limits if len(limit) == 2 and min(limit) > 0)


def _numbers(file: Path) -> list[int]:
    """Return the integers in a file; none if it is absent, or has the word ``max`` for no limit."""
    with suppress(OSError, ValueError):
        return [int(word) for word in file.read_text(encoding="ascii").split()]
    return []
