"""Environments of peers' own, ``.venv-NAME`` from ``requirements-NAME.txt``, and programs that are run in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.report import say
from benchmarks.timing import blas_threads

_HERE = Path(__file__).parent
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class Environment:
    """A peer's environment.

    Args:
        name: of the requirements, and of the folder.
    """

    def __init__(self, name: str) -> None:
        self._requirements = _HERE / f"requirements-{name}.txt"
        self._folder = _HERE.parent / f".venv-{name}"

    @property
    def _python(self) -> str:
        return str(self._folder / "bin" / "python")

    def build(self) -> None:
        """Make it if it is missing or older than its requirements."""
        stamp = self._folder / ".installed"
        if stamp.exists() and stamp.stat().st_mtime >= self._requirements.stat().st_mtime:
            return
        say(f"building {self._folder.name}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(self._folder)], check=True)
        install = ["-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([self._python, *install, "-r", str(self._requirements)], check=True)
        stamp.touch()

    def version(self, package: str) -> str:
        """The version that is required of a package."""
        return dict(line.split("==") for line in self._requirements.read_text().split())[package]

    def run(self, script: str, *arguments: str, limit: float | None = None) -> dict[str, Any]:
        """Run a script of this folder with as many threads as we have.

        Args:
            script: file name.
            *arguments: of the script.
            limit: seconds.

        Returns:
            what its last line of output says, in JSON.

        Raises:
            TimeoutExpired: it took longer.
            RuntimeError: it failed, with the last line that it complained with.
        """
        # -P: this folder is not searched for modules.
        command = [self._python, "-P", str(_HERE / script), *arguments]
        threads = dict.fromkeys(_THREADS, str(blas_threads()))
        done = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True, timeout=limit)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().rpartition("\n")[2])
        return json.loads(done.stdout.strip().rpartition("\n")[2])
