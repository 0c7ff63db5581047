"""The machine and the versions that figures were measured with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import psutil
from threadpoolctl import threadpool_info

from benchmarks.gpy import GPY
from benchmarks.timing import blas_threads


def describe(load: float) -> dict[str, str | int | float]:
    """What the figures depend on.

    Args:
        load: of the machine (mean over a minute) before anything was run; it should be near 0.

    Returns:
        descriptions by name.
    """
    blas = {f"{pool['internal_api']} {pool['version']}" for pool in threadpool_info() if pool["user_api"] == "blas"}
    packages = {name: version(name) for name in ("nngp-prior", "numpy", "scipy", "jax")}
    packages = {"Python": platform.python_version(), **packages, "GPy": GPY.version("gpy")}
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "memory, GB": round(psutil.virtual_memory().total / 1e9),
        "BLAS": f"{', '.join(sorted(blas))}, {blas_threads()} threads",
        "versions": ", ".join(f"{name} {number}" for name, number in packages.items()),
        "load at the start": round(load, 2),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
