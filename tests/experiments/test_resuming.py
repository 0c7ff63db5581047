"""Interrupted, killed and distributed runs leave the same files as one uninterrupted run."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from typing_extensions import override

from nngp_prior.errors import InvalidInput, ResourceLimit
from nngp_prior.experiments import FrequencyStudy, Study, run
from nngp_prior.experiments.report import write_report
from nngp_prior.progress import Progress
from nngp_prior.schemas.protocols import Protocol
from tests.experiments.cases import CHANGES, FUNCTIONS, NETWORKS, files, written

PARTS = [part for change in CHANGES for part in ("--set", change)]


@pytest.fixture
def study(request: pytest.FixtureRequest) -> Study | FrequencyStudy:
    """The uninterrupted run of a kind."""
    return request.getfixturevalue({"networks": "whole", "functions": "whole_functions"}[request.param])


@pytest.mark.parametrize(
    ("study", "after"),
    [("networks", 6), ("functions", 1)],
    indirect=["study"],
)
def test_interrupted_run_continues(study: Study | FrequencyStudy, tmp_path: Path, after: int) -> None:
    seen = 0

    def stop(event: Progress) -> None:
        nonlocal seen
        seen += event.stage == "tasks" and event.done >= after
        if seen:
            raise KeyboardInterrupt

    folder = tmp_path / "study"
    with pytest.raises(KeyboardInterrupt):
        run(study.protocol, folder, progress=stop)
    finished = (folder / "rows.jsonl").read_bytes()
    assert finished
    (folder / "rows.jsonl").write_bytes(finished + b'{"key": ["train", "cut o')
    (folder / "networks" / "half.npz.ab12.part").write_bytes(b"PK")
    again = run(study.protocol, folder)
    assert (folder / "rows.jsonl").read_bytes().startswith(finished)
    assert files(folder) == files(study.folder)
    assert (again.rows, again.problems) == (study.rows, study.problems)


def test_rows_stored_in_part_are_completed(whole: Study, tmp_path: Path) -> None:
    folder = shutil.copytree(whole.folder, tmp_path / "study")
    lines = (folder / "rows.jsonl").read_bytes().splitlines(keepends=True)
    trained = [line for line in lines if b'"train"' in line]
    (folder / "rows.jsonl").write_bytes(b"".join(line for line in lines if line is not trained[1]))
    run(whole.protocol, folder)
    assert files(folder) == files(whole.folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("study", "text", "changes"),
    [
        ("networks", NETWORKS, PARTS),
        ("functions", FUNCTIONS, []),
    ],
    indirect=["study"],
)
def test_killed_process_loses_nothing_and_its_workers_end(
    study: Study | FrequencyStudy, text: str, changes: list[str], tmp_path: Path
) -> None:
    """Killed without notice, as by the system for lack of memory, it cannot end its workers itself."""
    path, folder = written(tmp_path, text), tmp_path / "study"
    command = [sys.executable, "-c", "from nngp_prior.cli import main; main()", "experiment", "run", str(path)]
    process = subprocess.Popen(
        [*command, "--folder", str(folder), "--workers", "1", *changes], stderr=subprocess.DEVNULL
    )
    rows, deadline = folder / "rows.jsonl", time.monotonic() + 100
    while not rows.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    started = [each for each in psutil.Process(process.pid).children() if "spawn_main" in " ".join(each.cmdline())]
    process.kill()
    process.wait()
    assert len(started) == 1
    assert not psutil.wait_procs(started, timeout=60)[1]
    before = rows.read_bytes()
    assert not (folder / "results.csv").exists()
    again = run(study.protocol, folder)
    assert rows.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert files(folder) == files(study.folder)
    same = shutil.copytree(study.folder, tmp_path / "same")
    write_report(run(study.protocol, same))
    write_report(again)
    assert files(folder) == files(same)


def test_own_processes_report_progress_within_tasks(protocol: Protocol, whole: Study, tmp_path: Path) -> None:
    events: list[Progress] = []
    run(protocol, tmp_path / "study", workers=1, progress=events.append)
    assert files(tmp_path / "study") == files(whole.folder)
    assert [event.done for event in events if event.stage == "tasks"] == list(range(9))
    within = {event.stage for event in events} - {"tasks"}
    assert "networks" in within  # of training, in which the first event of a process is sent at once
    assert [event for event in events if event.cost is not None] == events[:1]
    with pytest.raises(InvalidInput, match="workers: got 0"):
        run(protocol, tmp_path / "study", workers=0)


class _Dying(ThreadPoolExecutor):
    """Executor whose worker dies in the third task."""

    submitted = 0

    @override
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.submitted += 1
        if self.submitted < 3:
            return super().submit(fn, *args, **kwargs)
        future: Future[Any] = Future()
        future.set_exception(BrokenExecutor("died"))
        return future


def test_executor_continues_after_the_worker_of_another_died(protocol: Protocol, whole: Study, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    with _Dying(1) as executor, pytest.raises(ResourceLimit, match="fewer workers"):
        run(protocol, folder, executor=executor)
    assert (folder / "rows.jsonl").stat().st_size > 0
    with ThreadPoolExecutor(2) as executor:
        run(protocol, folder, executor=executor)
    assert files(folder) == files(whole.folder)
