"""``/v1/kernels``: a kernel matrix, into the store."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from api.work.base import Chunk, Limits, Plan
from nngp_prior.prior.materials import about
from nngp_prior.prior.workbench import Workbench
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.request import KernelRequest
from nngp_prior.versions import versions

_WORKING = 2**29  # tiles of all threads, JAX and what it has compiled


class Kernels:
    """One row: the kernel's key and size, when it is in the store."""

    kind = KernelRequest.work
    request = KernelRequest
    columns: tuple[str, ...] = ()

    def plan(self, request: KernelRequest, bench: Workbench, limits: Limits) -> Plan:
        """As the protocol says; the matrix goes to the disk tile by tile."""
        del limits
        job = bench.kernel_job(request)
        bench.require_room(request)
        seconds = 2.0 + 1e-7 * len(job.X) ** 2
        facts = {"n": len(job.X), "kernel": job.key, **about(request.dataset), "versions": versions()}
        return Plan(1, (Chunk((0,), 0, _WORKING, seconds),), "kernels", facts, bench.has(request))

    def run(
        self, request: KernelRequest, rows: Sequence[int], bench: Workbench, progress: ProgressCallback
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """As the protocol says."""
        for row in rows:
            began = time.perf_counter()
            K = bench.kernel(request, progress)
            yield (
                row,
                {"kernel": bench.kernel_job(request).key, "bytes": K.nbytes, "seconds": time.perf_counter() - began},
            )

    def document(self, request: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
        """As the protocol says."""
        return {**facts, **{name: request[name] for name in ("architecture", "get", "dtype")}}
