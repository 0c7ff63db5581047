"""``/v1/samples``: draws of networks, or of the Gaussian process, counted by function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from api.work.base import Chunk, Limits, Plan
from nngp_prior.architectures.inputs import fitting_inputs
from nngp_prior.errors import ResourceLimit
from nngp_prior.numerics.fitting import largest_that_fits
from nngp_prior.prior.request_context import inputs_of
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.prior.sampling.cost import sampling_cost
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.requests import SampleRequest


class SampleWork:
    """Draws counted by function; one row: the most frequent functions. Interrupted runs resume from saved draws."""

    kind = SampleRequest.work
    request = SampleRequest
    columns: tuple[str, ...] = ()

    def plan(self, request: SampleRequest, runner: RequestRunner, limits: Limits) -> Plan:
        """See :meth:`Work.plan`; the worker detects a zero input without biases, which has no label."""
        rows = runner.count(request)
        shape = fitting_inputs(
            "dataset", inputs_of(runner.data(request.dataset), request.architecture), request.architecture
        ).shape

        def memory(draws: int) -> int:
            return sampling_cost(request.architecture, shape, draws, request.source).bytes

        if memory(request.networks) > limits.bytes:
            largest = largest_that_fits(request.networks, limits.bytes, memory)
            remedy = f"Draw at most {largest:,}, or use" if largest else "Use"
            raise ResourceLimit(
                f"networks: {request.networks:,} draws at {shape[0]:,} inputs may take "
                f"{memory(request.networks) / 2**30:.1f} GiB, if all are different functions, and workers have "
                f"{limits.bytes / 2**30:.1f} GiB. {remedy} fewer inputs, or raise NNGP_MEMORY_LIMIT."
            )
        cost = sampling_cost(request.architecture, shape, request.networks, request.source)
        return Plan(rows, (Chunk((0,), 0, cost.bytes, cost.seconds),), "samples", runner.facts(request))

    def run(
        self, request: SampleRequest, rows: Sequence[int], runner: RequestRunner, progress: ProgressCallback
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """See :meth:`Work.run`."""
        return runner.results(request, rows, progress)

    def document(self, request: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
        """See :meth:`Work.document`."""
        asked = ("architecture", "networks", "source", "seed", "top", "complexities")
        return {"units": "nats", **facts, **{name: request[name] for name in asked}}
