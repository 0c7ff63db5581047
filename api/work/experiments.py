"""``/v1/experiments``: studies of which quantity predicts generalization, and of functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from api.work.base import Chunk, Limits, Plan
from nngp_prior.errors import ResourceLimit
from nngp_prior.experiments.requests import ExperimentRunner
from nngp_prior.experiments.requests.base import RequestedStudy
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.progress import ProgressCallback, without_cost
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.requests import ExperimentRequest

_SECONDS = 10.0  # target time of a chunk of several tasks


class ExperimentWork:
    """Networks, quantities of networks or functions, and a report: one row per task, and a last one for the study."""

    kind = ExperimentRequest.work
    request = ExperimentRequest
    columns: tuple[str, ...] = ()

    def plan(self, request: ExperimentRequest, runner: RequestRunner, limits: Limits) -> Plan:
        """See :meth:`Work.plan`."""
        found = ExperimentRunner(runner.studies)
        planned = found.plan(request)
        costs = found.costs(request, planned)
        for i, cost in enumerate(costs):
            if cost.bytes > limits.bytes:
                raise ResourceLimit(_too_large(request, planned, i, cost, limits))
        last = Chunk((len(planned.tasks),), 1, costs[-1].bytes, costs[-1].seconds, planned.last)
        return Plan(len(costs), (*_chunks(planned, costs), last), "tasks", found.facts(request, planned))

    def run(
        self, request: ExperimentRequest, rows: Sequence[int], runner: RequestRunner, progress: ProgressCallback
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """See :meth:`Work.run`."""
        return ExperimentRunner(runner.studies).results(request, rows, without_cost(progress))

    def document(self, request: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
        """See :meth:`Work.document`."""
        return {**facts, "protocol": request["protocol"]}


def _chunks(planned: RequestedStudy[Any, Any], costs: Sequence[Cost]) -> list[Chunk]:
    """Return chunks in the order of their phases, of a few seconds each where tasks are together."""
    groups: list[list[int]] = []
    tasks = planned.tasks
    for row in sorted(range(len(tasks)), key=lambda i: planned.phase(tasks[i])):
        before = groups[-1] if groups else []
        seconds = costs[row].seconds + sum(costs[i].seconds for i in before)
        alike = before and planned.together(tasks[before[-1]], tasks[row])
        if alike and planned.cores(tasks[before[-1]]) == planned.cores(tasks[row]) and seconds <= _SECONDS:
            before.append(row)
        else:
            groups.append([row])
    return [
        Chunk(
            tuple(rows),
            planned.cores(tasks[rows[0]]),
            max(costs[i].bytes for i in rows),
            sum(costs[i].seconds for i in rows),
            planned.phase(tasks[rows[0]]),
        )
        for rows in groups
    ]


def _too_large(
    request: ExperimentRequest, planned: RequestedStudy[Any, Any], row: int, cost: Cost, limits: Limits
) -> str:
    if row == len(planned.tasks):
        what, less = f"the statistics of {request.protocol.networks:,} networks take", "fewer seeds or values of axes"
    else:
        what, less = f"{planned.title(planned.tasks[row])} takes", "fewer inputs, seeds, steps or particles"
    return (
        f"protocol: {what} {cost.bytes / 2**30:.1f} GiB, and workers have {limits.bytes / 2**30:.1f} GiB. Ask for "
        f"{less}, or raise NNGP_MEMORY_LIMIT."
    )
