"""A Dask worker that computes for services: ``python -m api.worker``, with settings from the environment.

The worker is no more than an address at which Dask leaves units of work; child processes compute them, with the same
limits and the same handling of crashes as on a service's own machine. Errors that the user can fix are printed in one
line; the exit status is then 2. A signal, or the end of the walltime, ends it with status 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import structlog
from pydantic import Field, field_validator

from api import logs
from api.executors.create import local_executor
from api.settings import MachineSettings, read_settings
from nngp_prior.errors import InvalidInput, NngpPriorError
from nngp_prior.extras import require_extra
from nngp_prior.versions import PACKAGE, versions

if TYPE_CHECKING:
    from distributed import Worker

    from api.executors.dask_worker import Units
    from api.executors.local import LocalExecutor

_LOOK = 0.2  # seconds between two looks at what Dask wants
_LAST_SECONDS = 10.0  # before the walltime: for putting units back
_CLOSE_SECONDS = 5.0
_PATIENCE = 10.0  # seconds without a scheduler before the log says so
_TASK_SECONDS = 366 * 86400.0  # services send their own limit with each unit
_log = structlog.get_logger(__name__)


class WorkerSettings(MachineSettings):
    """Environment variables of a worker.

    Attributes:
        walltime: ``NNGP_WALLTIME``, seconds after which the worker must have ended, or ``D-HH:MM:SS`` as in SLURM;
            default: no limit.
        drain: ``NNGP_DRAIN``, seconds before that during which it takes no further units, so that running ones can
            finish.
    """

    walltime: Annotated[float, Field(gt=0)] | None = None
    drain: Annotated[float, Field(ge=0)] = 60.0

    @field_validator("walltime", "drain", mode="before")
    @classmethod
    def _seconds(cls, value: Any) -> Any:
        """Convert ``D-HH:MM:SS`` and ``HH:MM:SS``."""
        if not (isinstance(value, str) and ":" in value):
            return value
        days, _, clock = value.rpartition("-")
        parts = clock.split(":")
        if len(parts) != 3 or not all(part.isdecimal() for part in (*parts, days or "0")):
            raise ValueError("give seconds, HH:MM:SS or D-HH:MM:SS")
        hours, minutes, seconds = map(int, parts)
        return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def main() -> None:
    """Run a worker until a signal or its walltime ends it."""
    try:
        require_extra("service")
        require_extra("dask")
        settings = read_settings(WorkerSettings)
        logs.configure(logging.getLevelNamesMapping()[settings.log_level.upper()])
        address = _address(settings)
        executor = local_executor(settings, _TASK_SECONDS)
    except (NngpPriorError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    try:
        asyncio.run(_Process(settings, address, executor).run())
    finally:
        executor.close()


def _address(settings: WorkerSettings) -> str:
    from api.executors.dask_messages import ADDRESS, require_address

    if settings.dask_address is None:
        remedy = "Give the address of a scheduler (dask scheduler), such as tcp://login:8786."
        raise InvalidInput(ADDRESS, "is not set", remedy)
    return require_address(settings.dask_address)


class _Process:
    """The worker of this process, which is started again when the scheduler was lost.

    Args:
        settings: settings of the worker.
        address: address of the scheduler.
        executor: executor of tasks.
    """

    def __init__(self, settings: WorkerSettings, address: str, executor: LocalExecutor) -> None:
        from api.executors import dask_worker

        self._address, self._executor = address, executor
        self._units: Units = dask_worker.start(executor, settings.home)
        until = float("inf") if settings.walltime is None else time.monotonic() + settings.walltime - _LAST_SECONDS
        self._end_at, self._drain_at = until, until - settings.drain
        self._signal: signal.Signals | None = None

    async def run(self) -> None:
        """Compute units until a signal, or the walltime, ends this process."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal, number)
        _configure()
        _log.info("connecting to the Dask scheduler", address=self._address)
        while not self._ending():
            worker = await self._registered()
            if worker is not None:
                await self._serve(worker)
                await self._close(worker)
        reason = self._signal.name if self._signal else "the walltime"
        _log.info("the worker ends", reason=reason)

    def _on_signal(self, number: signal.Signals) -> None:
        self._signal = signal.Signals(number)

    def _ending(self) -> bool:
        now = time.monotonic()
        idle = now >= self._drain_at and not len(self._units)
        return self._signal is not None or now >= self._end_at or idle

    async def _registered(self) -> Worker | None:
        """Return a worker that the scheduler knows; None if this process has to end before there is one."""
        from distributed import Worker

        from api.executors.dask_messages import HUNG, resource_names

        capacity = self._executor.capacity()
        worker = Worker(
            self._address,
            nthreads=capacity.slots,
            resources=dict(zip(resource_names(), (capacity.cores, capacity.bytes), strict=True)),
            memory_limit=0,  # bytes are the executor's affair
            dashboard=False,
            metrics={HUNG: lambda _: int(self._units.hung())},
        )
        starting = asyncio.ensure_future(worker)
        patience = time.monotonic() + _PATIENCE
        while not starting.done():
            if self._ending():
                starting.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await starting
                return None
            if time.monotonic() > patience:
                _log.warning("waiting for the Dask scheduler", address=self._address)
                patience = float("inf")
            await asyncio.sleep(_LOOK)
        await starting
        _log.info(
            "the worker is ready",
            scheduler=self._address,
            worker=worker.address,
            slots=capacity.slots,
            cores=capacity.cores,
            bytes=capacity.bytes,
            versions=versions(),
        )
        return worker

    async def _serve(self, worker: Worker) -> None:
        """Watch over the units until this process has to end, or the connection is lost."""
        from distributed import Status

        while not self._ending() and worker.status in (Status.running, Status.paused):
            self._units.drop_unwanted(worker)
            if not self._units.draining and time.monotonic() >= self._drain_at:
                self._units.draining = True
                _log.info("the worker takes no further units", running=len(self._units))
                with contextlib.suppress(OSError):  # the scheduler is lost
                    await worker.set_resources(**dict.fromkeys(worker.state.total_resources, 0))
            await asyncio.sleep(_LOOK)

    async def _close(self, worker: Worker) -> None:
        """End all units: put them back if this process ends, otherwise drop them, and close the worker."""
        if self._ending():
            await asyncio.to_thread(self._units.end)
        else:
            _log.warning("the connection to the Dask scheduler was lost", address=self._address)
        until = time.monotonic() + _CLOSE_SECONDS
        while len(self._units) and time.monotonic() < until:
            self._units.drop_all()
            await asyncio.sleep(_LOOK / 4)
        with contextlib.suppress(OSError):  # timeouts too
            closing = worker.close(timeout=_CLOSE_SECONDS, reason=f"{PACKAGE}-worker")
            await asyncio.wait_for(closing, 3 * _CLOSE_SECONDS)


def _configure() -> None:
    from dask import config

    from api.executors.dask_messages import log_through_root

    config.set({"distributed.worker.profile.enabled": False, "distributed.diagnostics.nvml": False})
    log_through_root()


if __name__ == "__main__":
    main()
