"""A real Dask scheduler and real workers, in processes of their own on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.system.server import free_port

ROOT = Path(__file__).parents[2]


class Process:
    """A process with a log.

    Args:
        command: arguments of Python.
        log: path of the file.
        prefix: of the command, such as one that enters a network namespace.
        **settings: as in the environment, without ``NNGP_``.
    """

    def __init__(self, command: Sequence[str], log: Path, prefix: Sequence[str] = (), **settings: Any) -> None:
        self._command, self._log, self._prefix = command, log, prefix
        self._settings = {f"NNGP_{name.upper()}": str(value) for name, value in settings.items()}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **self._settings}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._prefix, sys.executable, *self._command], env=environment, stdout=log, stderr=log
            )

    def send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def end(self, number: signal.Signals = signal.SIGTERM, seconds: float = 30) -> int:
        """Send a signal, and return the exit status."""
        assert self._process is not None
        self.send(number)
        return self._process.wait(seconds)

    def kill(self) -> None:
        if self._process is not None:
            self.send(signal.SIGCONT)
            self.end(signal.SIGKILL)

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def children(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid).children(recursive=True)
        return []

    def log(self) -> str:
        return self._log.read_text(errors="replace")


class Cluster:
    """A scheduler, and workers that compute with a module.

    Args:
        folder: of logs, and of ``NNGP_HOME`` unless a worker has another.
        host: address of the scheduler.
        worker: module of the workers.
        protocol: ``tcp`` or ``tls``.
    """

    def __init__(
        self, folder: Path, host: str = "127.0.0.1", worker: str = "api.worker", protocol: str = "tcp"
    ) -> None:
        self.folder, self._worker = folder, worker
        port = free_port()
        self.address = f"{protocol}://{host}:{port}"
        where = ["--host", host, "--port", str(port), "--protocol", protocol]
        command = ["-m", "distributed.cli.dask_scheduler", *where, "--no-dashboard"]
        self.scheduler = Process(command, folder / "scheduler.log")
        self.workers: list[Process] = []

    def add_worker(self, prefix: Sequence[str] = (), command: Sequence[str] | None = None, **settings: Any) -> Process:
        """Start a worker with one slot."""
        settings = {"home": self.folder, "dask_address": self.address, "slots": 1, **settings}
        log = self.folder / f"worker{len(self.workers)}.log"
        worker = Process(command or ["-m", self._worker], log, prefix, **settings)
        worker.start()
        self.workers.append(worker)
        return worker

    def logs(self) -> str:
        return "\n".join(f"--- {i}\n{worker.log()[-3000:]}" for i, worker in enumerate(self.workers))

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
