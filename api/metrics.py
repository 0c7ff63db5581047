"""``/metrics``: requests, this process, jobs and storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from prometheus_fastapi_instrumentator import Instrumentator

_UNITS = "units_"


class JobCounts(Collector):
    """Gauges evaluated at each scrape.

    Args:
        counts: function that counts jobs by state, and units under ``units_…``.
        sizes: function that returns bytes of storage by kind of data.
        capacity: function that returns the resources for units of work by kind of resource.
    """

    def __init__(
        self,
        counts: Callable[[], Mapping[str, int]],
        sizes: Callable[[], Mapping[str, int]],
        capacity: Callable[[], Mapping[str, int]],
    ) -> None:
        self._counts, self._sizes, self._capacity = counts, sizes, capacity

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """See prometheus_client's ``Collector``.

        Yields:
            the gauges.
        """
        jobs = GaugeMetricFamily("nngp_jobs", "Jobs by their state.", labels=["state"])
        units = GaugeMetricFamily("nngp_units", "Units of work of jobs that are not done.", labels=["state"])
        for name, value in self._counts().items():
            family = units if name.startswith(_UNITS) else jobs
            family.add_metric([name.removeprefix(_UNITS)], value)
        stored = GaugeMetricFamily("nngp_stored_bytes", "What is stored.", labels=["what"])
        for name, value in self._sizes().items():
            stored.add_metric([name], value)
        capacity = GaugeMetricFamily("nngp_capacity", "Resources for units of work at present.", labels=["what"])
        for name, value in self._capacity().items():
            capacity.add_metric([name], value)
        yield from (jobs, units, stored, capacity)


def instrument(app: FastAPI) -> None:
    """Count requests, and serve ``/metrics``."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(JobCounts(lambda: app.state.service.table.counts(), lambda: _sizes(app), lambda: _capacity(app)))
    instrumentator = Instrumentator(registry=registry)
    instrumentator.instrument(app)
    instrumentator.expose(app, tags=["health"], response_class=PlainTextResponse)


def _sizes(app: FastAPI) -> dict[str, int]:
    service = app.state.service
    return {"blobs": service.blobs.bytes, "kernels": sum(entry.bytes for entry in service.kernels.entries())}


def _capacity(app: FastAPI) -> dict[str, int]:
    capacity = app.state.service.executor.capacity()
    return {"slots": capacity.slots, "cores": capacity.cores, "bytes": capacity.bytes}
