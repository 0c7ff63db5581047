"""Limits of a container, in the two forms of Linux's control groups."""

import os
from pathlib import Path

import psutil
import pytest

from nngp_prior.numerics.cgroup import memory_bytes, processors
from nngp_prior.numerics.threads import cores

TOTAL, HERE = psutil.virtual_memory().total, len(os.sched_getaffinity(0))


def group(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(content + "\n")
    return folder


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, TOTAL),
        ({"memory.max": "max"}, TOTAL),
        ({"memory.max": "1048576"}, 2**20),
        ({"memory.max": str(2 * TOTAL)}, TOTAL),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, TOTAL),
        ({"memory/memory.limit_in_bytes": "2097152"}, 2**21),
    ],
)
def test_memory(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    assert memory_bytes(group(tmp_path, files)) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, HERE),
        ({"cpu.max": "max 100000"}, HERE),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": f"{100_000 * (HERE - 1) + 1} 100000"}, HERE),
        ({"cpu.max": f"{100_000 * (HERE + 1)} 100000"}, HERE),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, HERE),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
    ],
)
def test_processors(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    assert processors(group(tmp_path, files)) == expected


def test_computations_use_the_processors_of_the_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one = group(tmp_path, {"cpu.max": "100000 100000"})
    monkeypatch.setattr("nngp_prior.numerics.threads.processors", lambda: processors(one))
    assert cores() == 1
