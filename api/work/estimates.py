"""``/v1/estimates``: log P of labellings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from api.work.base import Chunk, Limits, Plan
from nngp_prior.errors import ResourceLimit
from nngp_prior.numerics.fitting import largest_that_fits
from nngp_prior.prior.workbench import Workbench
from nngp_prior.probability import SMALL, constraints, memory_needed, seconds_needed
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.estimator import EP, SMC, Estimator
from nngp_prior.schemas.request import EstimateRequest, KernelRequest

_SECONDS = 60.0  # of a chunk
_SHORTEST = 2.0  # not worth sharing out


class Estimates:
    """log P of labellings: a row is a labelling."""

    kind = EstimateRequest.work
    request = EstimateRequest
    columns: tuple[str, ...] = ("log_p", "stderr")

    def plan(self, request: EstimateRequest, bench: Workbench, limits: Limits) -> Plan:
        """As the protocol says; a labelling that cannot be used is found by the worker, and only its row is refused."""
        return plan_of(request, bench, limits, lambda n: seconds_needed(n, request.estimator))

    def run(
        self, request: EstimateRequest, rows: Sequence[int], bench: Workbench, progress: ProgressCallback
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """As the protocol says."""
        return bench.estimates(request, rows, progress)

    def document(self, request: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
        """As the protocol says."""
        return {"units": "nats", **facts, **{name: request[name] for name in ("architecture", "estimator", "seed")}}


def plan_of(request: EstimateRequest, bench: Workbench, limits: Limits, seconds: Callable[[int], float]) -> Plan:
    """The plan of what has a row for each labelling.

    Args:
        request: what was posted.
        bench: data sets, uploaded arrays, kernels.
        limits: of the machine.
        seconds: of a labelling of n inputs.

    Returns:
        the chunks.

    Raises:
        ResourceLimit: n is too large for the memory.
    """
    rows = bench.count(request)
    facts = bench.facts(request)
    n, estimator = facts["n"], request.estimator
    memory = _bytes(n, estimator)
    if memory > limits.bytes:
        largest = largest_that_fits(n, limits.bytes, lambda n: _bytes(n, estimator))
        remedy = f"Use at most {largest:,} inputs" if largest else "Use fewer particles"
        raise ResourceLimit(
            f"dataset.n: {estimator.kind} on n = {n:,} inputs takes {memory / 2**30:.1f} GiB with its "
            f"kernel, and workers have {limits.bytes / 2**30:.1f} GiB. {remedy}, or raise "
            "NNGP_MEMORY_LIMIT."
        )
    small = constraints(n, estimator) <= SMALL
    each = seconds(n)
    size = _size(rows, each, limits.cores if small else 1)
    chunks = tuple(
        Chunk(tuple(range(i, min(i + size, rows))), int(small), memory, each * min(size, rows - i))
        for i in range(0, rows, size)
    )
    kernel = KernelRequest(architecture=request.architecture, dataset=request.dataset)
    return Plan(rows, chunks, "labellings", facts, bench.has(kernel))


def _bytes(n: int, estimator: Estimator) -> int:
    """Peak memory of a worker with the kernel in it, on the host: whether there is a GPU only workers know."""
    if isinstance(estimator, EP | SMC):
        estimator = estimator.model_copy(update={"backend": "numpy"})
    return 8 * n * n + memory_needed(n, estimator)


def _size(rows: int, each: float, workers: int) -> int:
    """Rows of a chunk: about a minute's, and twice as many chunks as workers where there is work for them."""
    chunks = max(math.ceil(rows * each / _SECONDS), min(2 * workers, math.ceil(rows * each / _SHORTEST)), 1)
    return math.ceil(rows / chunks)
