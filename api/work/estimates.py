"""``/v1/estimates``: log P of labellings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from api.work.base import Chunk, Plan
from nngp_prior.prior.workbench import Workbench, about
from nngp_prior.probability import SMALL, memory_needed, seconds_needed
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.request import EstimateRequest, KernelRequest
from nngp_prior.versions import versions

_SECONDS = 60.0  # of a chunk
_SHORTEST = 2.0  # not worth sharing out


class Estimates:
    """log P of labellings: a row is a labelling."""

    kind = "estimates"
    request = EstimateRequest

    def plan(self, request: EstimateRequest, bench: Workbench, cores: int) -> Plan:
        """As the protocol says; a labelling that cannot be used is found by the worker, and only its row is refused."""
        rows = len(bench.places(request.labellings))
        kernel = KernelRequest(architecture=request.architecture, dataset=request.dataset)
        job = bench.kernel_job(kernel)
        n = len(job.X)
        small = n <= SMALL
        each = seconds_needed(n, request.estimator)
        memory = job.nbytes + memory_needed(n, request.estimator)
        size = _size(rows, each, cores if small else 1)
        chunks = tuple(
            Chunk(tuple(range(i, min(i + size, rows))), int(small), memory, each * min(size, rows - i))
            for i in range(0, rows, size)
        )
        facts = {"n": n, "kernel": job.key, **about(request.dataset)}
        return Plan(rows, chunks, "labellings", facts, bench.has(kernel))

    def run(
        self, request: EstimateRequest, rows: Sequence[int], bench: Workbench, progress: ProgressCallback
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """As the protocol says."""
        return bench.estimates(request, rows, progress)

    def document(self, request: EstimateRequest, facts: dict[str, Any]) -> dict[str, Any]:
        """As the protocol says."""
        return {
            "units": "nats",
            **facts,
            "architecture": request.architecture.model_dump(mode="json"),
            "estimator": request.estimator.model_dump(mode="json"),
            "seed": request.seed,
            "versions": versions(),
        }


def _size(rows: int, each: float, workers: int) -> int:
    """Rows of a chunk: about a minute's, and twice as many chunks as workers where there is work for them."""
    chunks = max(math.ceil(rows * each / _SECONDS), min(2 * workers, math.ceil(rows * each / _SHORTEST)), 1)
    return math.ceil(rows / chunks)
