"""State shared by routes while the service runs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import anyio.to_thread
import structlog
from anyio import CapacityLimiter
from pydantic import ValidationError

from api.blobs import BlobStore
from api.document_store import DocumentStore
from api.errors import refused
from api.executors.base import Executor
from api.executors.create import executor_of
from api.files import StoreLock, store_id
from api.housekeeping import Housekeeping
from api.jobs.database import is_shared
from api.jobs.dispatcher import Dispatcher
from api.jobs.notifier import Notifier
from api.jobs.table import JobTable
from api.problems import Problem, problem_of
from api.settings import ServerSettings
from api.work import WORK, Limits
from nngp_prior.errors import NngpPriorError
from nngp_prior.experiments.requests import ExperimentRunner
from nngp_prior.kernels.cache import KernelCache
from nngp_prior.numerics.whole_files import trim
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.schemas.requests import ExperimentRequest, RequestLabelling
from nngp_prior.versions import versions

T = TypeVar("T")
_COMPILED_BYTES = 10**9  # compiled JAX code
_LOADING = 2  # concurrent requests that load data
_log = structlog.get_logger(__name__)


class Service:
    """Stores, job table and dispatcher, created by the application's lifespan.

    Args:
        settings: settings of the service.
        executor: executor of tasks; default: by the settings.

    Attributes:
        lock: lock on the store.
        executor: executor of tasks.
        blobs: uploaded arrays.
        kernels: kernel cache.
        runner: request runner for planning and checks.
        datasets: named data sets.
        labellings: named labellings.
        spectra: computed spectra of kernels.
        table: job table.
        changes: notifier of job changes.
        dispatcher: dispatcher of units of work.
        stopping: True once shutdown has begun.
        slow: limiter; one request that takes minutes at a time.
        reading: limiter; one JSON body parsed at a time.
        naming: limiter; one request's labels made at a time.
    """

    def __init__(self, settings: ServerSettings, executor: Executor | None = None) -> None:
        self.settings, self.stopping = settings, False
        home, free = settings.home, settings.min_free_disk
        shared = is_shared(settings.database_url)
        self.lock = StoreLock(home, shared)
        self.blobs = BlobStore(settings, shared)
        self.blobs.start()
        self.kernels = KernelCache(home / "kernels", settings.cache_bytes)
        self.runner = RequestRunner(self.kernels, self.blobs.open, studies=home / "studies", planning=True)
        self.datasets = DocumentStore(home / "catalogue" / "datasets", free, shared)
        self.labellings = DocumentStore(home / "catalogue" / "labellings", free, shared)
        self.spectra = DocumentStore(home / "catalogue" / "spectra", free, shared)
        database = home / "service.sqlite"
        if settings.database_url is None:
            database.touch()
            database.chmod(0o600)
        url = settings.database_url or f"sqlite:///{database}"
        self.table = JobTable(url, lease_seconds=settings.lease_seconds, password_file=settings.database_password_file)
        owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        if shared:
            self.table.join(_digest(versions()), store_id(home))
        else:
            self.table.reclaim(owner)  # the lock on the store shows that the holders of earlier leases have ended
        self.changes = Notifier(self.table)
        self.executor = executor = executor or executor_of(settings)
        self.dispatcher = Dispatcher(
            self.table,
            executor,
            owner=owner,
            min_free_disk=free,
            folder=home,
            lease_seconds=settings.lease_seconds,
        )
        self._begin_outdated_anew()
        self.dispatcher.start()
        self.table.follow()
        compiled = home / "xla"
        compiled.mkdir(mode=0o700, exist_ok=True)
        self._housekeeping = Housekeeping(
            lambda: self.table.forget(settings.job_days),
            lambda: trim(compiled, _COMPILED_BYTES),
            self._forget_studies,
            due=self.lock.leads,
        )
        self._housekeeping.start()
        self.slow, self.reading, self.naming = CapacityLimiter(1), CapacityLimiter(1), CapacityLimiter(1)
        self._loading = CapacityLimiter(_LOADING)

    @property
    def limits(self) -> Limits:
        """Cores and memory of the workers at present."""
        capacity = self.executor.capacity()
        return Limits(capacity.task_cores, capacity.task_bytes, capacity.cores)

    async def in_thread(self, function: Callable[..., T], *args: Any, limiter: CapacityLimiter | None = None) -> T:
        """Call a function that takes time or memory in a thread, a few at a time; the event loop stays free.

        Args:
            function: function to call.
            *args: its arguments.
            limiter: limit on concurrent calls; default: that of requests that load data.

        Returns:
            its return value.
        """
        return await anyio.to_thread.run_sync(function, *args, limiter=limiter or self._loading)

    def count(self, labellings: Sequence[RequestLabelling]) -> int:
        """Count labellings, including the rows of uploaded arrays.

        Args:
            labellings: labellings of a request.

        Returns:
            their number.

        Raises:
            Problem: if there are too many.
        """
        self.require_rows("labellings", len(labellings))  # checked first: each may name an array to be opened
        count = len(self.runner.places(labellings))
        self.require_rows("labellings", count)
        return count

    def require_rows(self, unit: str, count: int) -> None:
        """Refuse a request with more rows than ``max_rows``; ``unit`` is their name in the plural."""
        most = self.settings.max_rows
        if count > most:
            message = f"are {count:,}, and {most:,} are allowed (NNGP_MAX_ROWS). Send them in parts."
            raise refused([{"location": unit, "message": message}], "too-many-rows")

    def _begin_outdated_anew(self) -> None:
        """Replan open jobs of other versions without their rows: one result must not mix rows of two versions."""
        for job in self.table.outdated(versions()):
            _log.warning("a job begins anew, since versions have changed", job=job.id, rows=job.done)
            try:
                work = WORK[job.kind]
                content, _ = self.table.request(job.id)
                request = work.request.model_validate(content)
                plan = work.plan(request, self.runner, self.limits)
            except (NngpPriorError, ValidationError, Problem, KeyError) as error:
                self.table.refuse(job.id, problem_of(error).document())
            else:
                self.table.submit(job.id, job.kind, content, plan, job.request_id, job.summary, anew=True)

    def _forget_studies(self) -> None:
        """Delete the folders of studies whose jobs have been deleted."""
        kept = self.table.requests(ExperimentRequest.work)
        ExperimentRunner(self.runner.studies).keep_only(
            (ExperimentRequest.model_validate(request), facts.get("versions", {})) for request, facts in kept
        )

    def disk_is_full(self) -> bool:
        """True if less free disk space is left than required."""
        return shutil.disk_usage(self.settings.home).free < self.settings.min_free_disk

    def stop_waiting(self) -> None:
        """Answer all requests that wait for jobs, before shutdown."""
        self.stopping = True
        self.changes.stop_waiting()

    def close(self) -> None:
        """Shut down everything that the constructor started."""
        self.stop_waiting()
        self._housekeeping.stop()
        self.changes.close()
        self.dispatcher.stop()
        self.table.close()
        self.lock.release()


def _digest(versions: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(versions, sort_keys=True).encode()).hexdigest()
