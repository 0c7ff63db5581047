"""Executors of other packages with real processes: a Dask cluster, and Parsl's workers."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# Workers import functions of tests; XLA_FLAGS and the compilation cache of tests/conftest.py are inherited.
_ENVIRONMENT = {"PYTHONPATH": str(ROOT), "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}


@dataclass(frozen=True)
class DaskCluster:
    """A scheduler and its workers, without nannies."""

    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]
    client: Any


@contextmanager
def dask_cluster(folder: Path, workers: int = 1) -> Iterator[DaskCluster]:
    """Start a Dask cluster on this machine, and a client."""
    from distributed import Client

    file = folder / "scheduler.json"
    alone = ["--host", "127.0.0.1", "--no-dashboard"]

    def start(name: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", name, *arguments, "--scheduler-file", str(file), *alone]
        with (folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=folder, env=os.environ | _ENVIRONMENT, stderr=log)
        stack.callback(_end, process)
        return process

    with ExitStack() as stack:
        scheduler = start("scheduler", "--port", "0")
        started = [start("worker", "--no-nanny", "--nthreads", "1") for _ in range(workers)]
        deadline = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < deadline, (folder / "scheduler.log").read_text()
            time.sleep(0.02)
        client = stack.enter_context(Client(scheduler_file=str(file), timeout=60))
        client.wait_for_workers(workers, timeout=60)
        yield DaskCluster(scheduler, started, client)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@contextmanager
def parsl_executor(folder: Path) -> Iterator[Any]:
    """Start a worker of Parsl on this machine."""
    from parsl import Config, HighThroughputExecutor
    from parsl.concurrent import ParslPoolExecutor
    from parsl.providers import LocalProvider

    programs = Path(sys.executable).parent  # Parsl's own may not be on the path
    own = HighThroughputExecutor(
        address="127.0.0.1",
        max_workers_per_node=1,
        interchange_launch_cmd=[sys.executable, str(programs / "interchange.py")],
        provider=LocalProvider(worker_init=f"export PYTHONPATH={ROOT} PATH={programs}:$PATH"),
    )
    run_dir = str(folder / "parsl")
    config = Config(
        executors=[own], run_dir=run_dir, strategy="none", initialize_logging=False
    )  # else a file is left open
    with ParslPoolExecutor(config) as executor:
        yield executor
