"""``/v1/sharpness``: sharpness of the loss at a trained network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from api.work.base import Chunk, Limits, Plan
from nngp_prior.errors import ResourceLimit
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.requests import SharpnessRequest
from nngp_prior.sharpness.cost import measuring_cost
from nngp_prior.sharpness.requests import SharpnessRunner


class SharpnessWork:
    """Measures of one network: one row per measure, with all its figures."""

    kind = SharpnessRequest.work
    request = SharpnessRequest
    columns: tuple[str, ...] = ()

    def plan(self, request: SharpnessRequest, runner: RequestRunner, limits: Limits) -> Plan:
        """See :meth:`Work.plan`; the worker detects measures that these data do not allow, and refuses them alone."""
        found = SharpnessRunner(runner)
        found.count(request)
        facts, shape = found.facts(request), found.input_shape(request)
        chunks = []
        for i, measure in enumerate(request.measures):
            cost = measuring_cost(request.architecture, shape, measure, request.dtype)
            if cost.bytes > limits.bytes:
                raise ResourceLimit(
                    f"measures.{i}: {measure.kind} of {facts['parameters']:,} parameters on {facts['n']:,} inputs "
                    f"takes {cost.bytes / 2**30:.1f} GiB, and workers have {limits.bytes / 2**30:.1f} GiB. Ask for "
                    "fewer steps or inputs, or raise NNGP_MEMORY_LIMIT."
                )
            chunks.append(Chunk((i,), 0, cost.bytes, cost.seconds))
        return Plan(len(chunks), tuple(chunks), "measures", facts)

    def run(
        self, request: SharpnessRequest, rows: Sequence[int], runner: RequestRunner, progress: ProgressCallback
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """See :meth:`Work.run`."""
        return SharpnessRunner(runner).results(request, rows, progress)

    def document(self, request: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
        """See :meth:`Work.document`."""
        asked = ("architecture", "weights", "measures", "loss", "dtype", "seed")
        return {**facts, **{name: request[name] for name in asked}}
