"""What routes share while the service runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter

from api.blobs import BlobStore
from api.register import Register
from api.settings import ServerSettings
from nngp_prior.kernels.cache import KernelCache
from nngp_prior.prior.workbench import Workbench

T = TypeVar("T")
_HEAVY = 2  # requests that load data at a time


class Table(Protocol):
    """What the shell asks of the table of jobs."""

    def counts(self) -> dict[str, int]:
        """Jobs by state, and units that wait and run."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...


class Dispatcher(Protocol):
    """What the shell asks of what has jobs done."""

    def ready(self) -> bool:
        """Whether jobs are being done."""
        ...

    def close(self) -> None:
        """End what runs."""
        ...


class Service:
    """What lifespan makes.

    Args:
        settings: of the service.
        table: of jobs.
        dispatcher: that has them done.

    Attributes:
        blobs: uploaded arrays.
        kernels: the cache.
        bench: data sets, for checking requests.
        datasets: those that were named.
        labellings: likewise.
        spectra: of kernels that were asked for.
    """

    def __init__(
        self, settings: ServerSettings, table: Table | None = None, dispatcher: Dispatcher | None = None
    ) -> None:
        self.settings, self.table, self.dispatcher = settings, table, dispatcher
        home, free = settings.home, settings.min_free_disk
        self.blobs = BlobStore(settings)
        self.blobs.start()
        self.kernels = KernelCache(home / "kernels", settings.cache_bytes)
        self.bench = Workbench(self.kernels, self.blobs.open)
        self.datasets = Register(home / "catalogue" / "datasets", free)
        self.labellings = Register(home / "catalogue" / "labellings", free)
        self.spectra = Register(home / "catalogue" / "spectra", free)
        self._heavy = CapacityLimiter(_HEAVY)

    async def in_thread(self, function: Callable[..., T], *args: Any) -> T:
        """Call what takes time or memory, in a thread, a few at a time; others are answered meanwhile.

        Args:
            function: to call.
            *args: its arguments.

        Returns:
            what it returns.
        """
        return await anyio.to_thread.run_sync(function, *args, limiter=self._heavy)

    def counts(self) -> dict[str, int]:
        """Of jobs and units, for metrics."""
        return {} if self.table is None else self.table.counts()

    def close(self) -> None:
        """End what lifespan began."""
        for part in (self.dispatcher, self.table):
            if part is not None:
                part.close()
