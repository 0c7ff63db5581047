"""Processes that commands start, with settings in their environment."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any


def environment(**chosen: Any) -> dict[str, str]:
    """Return settings as environment variables; settings of None are left out."""
    return {f"NNGP_{name.upper()}": str(value) for name, value in chosen.items() if value is not None}


def command(module: str) -> tuple[str, ...]:
    """Return the command that runs a module.

    Args:
        module: name of the module.

    Returns:
        its arguments. ``-P``: a folder of the same name in the working directory must not be imported.
    """
    return (sys.executable, "-P", "-m", module)


def run_module(module: str, settings: Mapping[str, str]) -> int:
    """Run a module in a process of its own until it ends, forwarding termination signals.

    The process reports invalid settings.

    Args:
        module: name of the module.
        settings: additional environment variables.

    Returns:
        its exit status; 128 and the number of the signal that ended it.
    """
    process: subprocess.Popen[bytes] | None = None

    def hand_on(number: int, _: Any) -> None:
        if process is None:
            sys.exit(128 + number)
        process.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, hand_on)
    # In its own session: otherwise Ctrl-C would reach it twice, and the second signal means immediate shutdown.
    process = subprocess.Popen(
        command(module), env={**os.environ, **settings}, start_new_session=True, preexec_fn=_end_with_parent
    )
    status = process.wait()
    return 128 - status if status < 0 else status


def _end_with_parent() -> None:
    """On Linux, have the kernel end this process when its parent is killed; elsewhere no effect."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
