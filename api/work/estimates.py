"""``/v1/estimates``: log P of labellings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from api.work.base import Chunk, Limits, Plan
from api.work.footprint import bytes_of_inputs, bytes_of_kernel
from nngp_prior.errors import ResourceLimit
from nngp_prior.kernels.cost import seconds_of_kernel
from nngp_prior.numerics.fitting import largest_that_fits
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.probability import SMALL, constraints, memory_needed, seconds_needed
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.requests import EstimateRequest, KernelRequest
from nngp_prior.schemas.specs.estimator import EP, SMC, Estimator

_SECONDS = 10.0  # target time of a chunk, for which other jobs may have to wait
_SHORTEST = 2.0  # seconds below which splitting is not worthwhile


class EstimateWork:
    """log P of labellings: one row per labelling."""

    kind = EstimateRequest.work
    request = EstimateRequest
    columns: tuple[str, ...] = ("log_p", "stderr")

    def plan(self, request: EstimateRequest, runner: RequestRunner, limits: Limits) -> Plan:
        """See :meth:`Work.plan`; the worker refuses the rows of invalid labellings alone."""
        return plan_of(request, runner, limits, lambda n: seconds_needed(n, request.estimator))

    def run(
        self, request: EstimateRequest, rows: Sequence[int], runner: RequestRunner, progress: ProgressCallback
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """See :meth:`Work.run`."""
        return runner.estimates(request, rows, progress)

    def document(self, request: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
        """See :meth:`Work.document`."""
        return {"units": "nats", **facts, **{name: request[name] for name in ("architecture", "estimator", "seed")}}


def plan_of(request: EstimateRequest, runner: RequestRunner, limits: Limits, seconds: Callable[[int], float]) -> Plan:
    """Plan work with one row per labelling.

    Args:
        request: request body.
        runner: request runner with data sets, uploaded arrays and kernels.
        limits: resources of the workers.
        seconds: function that returns the seconds per labelling of n inputs.

    Returns:
        the plan.

    Raises:
        ResourceLimit: if n is too large for the memory.
    """
    kernel = KernelRequest(architecture=request.architecture, dataset=request.dataset)
    job, estimator = runner.kernel_job(kernel), request.estimator
    n = len(job.X)
    small = constraints(n, estimator) <= SMALL

    def needed(n: int) -> int:
        """Return the peak memory of a worker: inputs, matrix, and workspace of the kernel or the estimate."""
        threads = 1 if constraints(n, estimator) <= SMALL else limits.cores
        working = max(bytes_of_kernel(job, n, threads), bytes_of_estimate(n, estimator, threads))
        return bytes_of_inputs(job, n) + 8 * n * n + working

    memory = needed(n)
    if memory > limits.bytes:
        largest = largest_that_fits(n, limits.bytes, needed)
        of_kernel = bytes_of_kernel(job, 1, 1) > limits.bytes // 2
        less = "Use smaller images, or a network without pooling" if of_kernel else "Use fewer particles or classes"
        remedy = f"Use at most {largest:,} inputs" if largest else less
        raise ResourceLimit(
            f"dataset.n: {estimator.kind} on n = {n:,} inputs takes {memory / 2**30:.1f} GiB with its "
            f"kernel, and workers have {limits.bytes / 2**30:.1f} GiB. {remedy}, or raise "
            "NNGP_MEMORY_LIMIT."
        )
    rows, facts, cached = runner.count(request), runner.facts(request), runner.has(kernel)  # these read all inputs
    each = seconds(n)
    size = _size(rows, each, (limits.all_cores or limits.cores) if small else 1)
    chunks = [
        Chunk(tuple(range(i, min(i + size, rows))), int(small), memory, each * min(size, rows - i))
        for i in range(0, rows, size)
    ]
    if not cached:
        chunks[0] = replace(chunks[0], seconds=chunks[0].seconds + seconds_of_kernel(job, 1 if small else limits.cores))
    return Plan(rows, tuple(chunks), "labellings", facts, cached)


def bytes_of_estimate(n: int, estimator: Estimator, threads: int) -> int:
    """Return the peak host memory of an estimate, without the matrix; only workers know if there is a GPU.

    Args:
        n: number of inputs.
        estimator: specification of the estimator.
        threads: number of particle groups run in parallel.

    Returns:
        bytes.
    """
    if isinstance(estimator, EP | SMC):
        estimator = estimator.model_copy(update={"backend": "numpy"})
    return memory_needed(n, estimator, threads)


def _size(rows: int, each: float, workers: int) -> int:
    """Return the rows per chunk: a few seconds' work, and twice as many chunks as workers if there is work for them."""
    chunks = max(math.ceil(rows * each / _SECONDS), min(2 * workers, math.ceil(rows * each / _SHORTEST)), 1)
    return math.ceil(rows / chunks)
