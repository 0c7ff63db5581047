"""``nngp-prior worker``: errors in one line; a real worker, through the command."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.cluster import ROOT, Cluster
from tests.system.server import wait_for

COMMAND = ["-c", "from nngp_prior.cli import main; main()", "worker"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "NNGP_DASK_ADDRESS"),
        (["tcp://127.0.0.1:1", "--walltime", "1:30"], "NNGP_WALLTIME"),
    ],
)
def test_what_can_be_corrected_is_named_in_one_line(arguments: list[str], named: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NNGP_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, *COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: {named}: ")


def test_signal_ends_a_worker_that_waits_for_its_scheduler(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    try:
        worker = cluster.add_worker()
        wait_for(lambda: "connecting to the Dask scheduler" in worker.log(), 30, worker.log)
        assert worker.end(signal.SIGINT) == 0
        assert "Traceback" not in worker.log()
    finally:
        cluster.close()


@pytest.mark.slow
def test_command_starts_a_worker_and_hands_on_signals(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    try:
        cluster.scheduler.start()
        worker = cluster.add_worker(command=COMMAND)
        wait_for(lambda: "the worker is ready" in worker.log(), 60, worker.log)
        children = worker.children()
        assert len(children) == 2  # the worker, and its process that computes
        assert worker.end(signal.SIGTERM) == 0
        assert not any(child.is_running() for child in children)
        assert "Traceback" not in worker.log()
    finally:
        cluster.close()
