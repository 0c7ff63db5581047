"""``/v1/kernels``: a kernel matrix, stored in the cache."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from api.work.base import Chunk, Limits, Plan
from api.work.footprint import bytes_of_inputs, bytes_of_kernel
from nngp_prior.errors import ResourceLimit
from nngp_prior.kernels.cost import seconds_of_kernel
from nngp_prior.prior.request_context import about
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.requests import KernelRequest
from nngp_prior.versions import versions


class KernelWork:
    """Kernel computation; one row: the kernel's key and size once it is stored."""

    kind = KernelRequest.work
    request = KernelRequest
    columns: tuple[str, ...] = ()

    def plan(self, request: KernelRequest, runner: RequestRunner, limits: Limits) -> Plan:
        """See :meth:`Work.plan`; the matrix is written to disk tile by tile."""
        job = runner.kernel_job(request)
        n, cores = len(job.X), limits.cores
        memory = bytes_of_inputs(job, n) + bytes_of_kernel(job, n, cores)
        if memory > limits.bytes:
            raise ResourceLimit(
                f"dataset.n: the kernel of n = {n:,} inputs takes {memory / 2**30:.1f} GiB to compute, and workers "
                f"have {limits.bytes / 2**30:.1f} GiB. Use fewer or smaller inputs, or raise NNGP_MEMORY_LIMIT."
            )
        runner.require_room(request)
        cached = runner.has(request)
        seconds = 0.0 if cached else seconds_of_kernel(job, cores)
        facts = {"n": n, "kernel": runner.kernel_key(request), **about(request.dataset), "versions": versions()}
        return Plan(1, (Chunk((0,), 0, memory, seconds),), "kernels", facts, cached)

    def run(
        self, request: KernelRequest, rows: Sequence[int], runner: RequestRunner, progress: ProgressCallback
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """See :meth:`Work.run`."""
        for row in rows:
            began = time.perf_counter()
            K = runner.kernel(request, progress)
            yield (
                row,
                {"kernel": runner.kernel_job(request).key, "bytes": K.nbytes, "seconds": time.perf_counter() - began},
            )

    def document(self, request: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
        """See :meth:`Work.document`."""
        return {**facts, **{name: request[name] for name in ("architecture", "get", "dtype")}}
