"""``/v1/experiments``: studies of which quantity predicts generalization."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from api.work.base import Chunk, Limits, Plan
from nngp_prior.errors import ResourceLimit
from nngp_prior.experiments.requests import ExperimentRunner
from nngp_prior.experiments.tasks import Task
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.probability import SMALL
from nngp_prior.progress import ProgressCallback, without_cost
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.requests import ExperimentRequest

_SECONDS = 10.0  # target time of a chunk of quantities
_TRAINING, _QUANTITIES, _STUDY = 0, 1, 2  # phases


class ExperimentWork:
    """Networks, quantities of each, and a report: one row per task, and a last one for the study."""

    kind = ExperimentRequest.work
    request = ExperimentRequest
    columns: tuple[str, ...] = ()

    def plan(self, request: ExperimentRequest, runner: RequestRunner, limits: Limits) -> Plan:
        """See :meth:`Work.plan`. First all networks are trained, then their quantities are computed."""
        found = ExperimentRunner(runner.studies)
        planned = found.plan(request)
        costs = found.costs(request, planned)
        for i, cost in enumerate(costs):
            if cost.bytes > limits.bytes:
                task = planned.tasks[i] if i < len(planned.tasks) else None
                raise ResourceLimit(_too_large(request, task, cost, limits))
        tasks = list(enumerate(planned.tasks))
        chunks = [
            Chunk((i,), 1, costs[i].bytes, costs[i].seconds, _TRAINING) for i, task in tasks if task.kind == "train"
        ]
        chunks += _of_quantities([(i, task, costs[i]) for i, task in tasks if task.kind != "train"])
        chunks.append(Chunk((len(tasks),), 1, costs[-1].bytes, costs[-1].seconds, _STUDY))
        return Plan(len(costs), tuple(chunks), "tasks", found.facts(request))

    def run(
        self, request: ExperimentRequest, rows: Sequence[int], runner: RequestRunner, progress: ProgressCallback
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """See :meth:`Work.run`."""
        return ExperimentRunner(runner.studies).results(request, rows, without_cost(progress))

    def document(self, request: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
        """See :meth:`Work.document`."""
        return {**facts, "protocol": request["protocol"]}


def _of_quantities(tasks: Sequence[tuple[int, Task, Cost]]) -> Iterator[Chunk]:
    """Yield chunks of a few seconds of quantities of one setting, which share data, networks and kernel."""
    together: list[tuple[int, Task, Cost]] = []
    for row, task, cost in tasks:
        seconds = sum(each.seconds for _, _, each in together)
        apart = together and (together[-1][1].setting is not task.setting or _cores(together[-1][1]) != _cores(task))
        if apart or (together and seconds + cost.seconds > _SECONDS):
            yield _chunk(together)
            together = []
        together.append((row, task, cost))
    if together:
        yield _chunk(together)


def _chunk(tasks: Sequence[tuple[int, Task, Cost]]) -> Chunk:
    rows, costs = tuple(row for row, _, _ in tasks), [cost for _, _, cost in tasks]
    seconds = sum(cost.seconds for cost in costs)
    return Chunk(rows, _cores(tasks[0][1]), max(cost.bytes for cost in costs), seconds, _QUANTITIES)


def _cores(task: Task) -> int:
    """Number of cores that a task uses; 0: all."""
    data = task.setting.protocol.data
    n = data.dataset.n if data.dataset is not None and data.dataset.n is not None else 0
    return 0 if task.kind == "prior" and n + data.test > SMALL else 1


def _too_large(request: ExperimentRequest, task: Task | None, cost: Cost, limits: Limits) -> str:
    if task is None:
        what, less = f"the statistics of {request.protocol.networks:,} networks take", "fewer seeds or values of axes"
    else:
        quantity = "training" if task.quantity is None else task.quantity.kind
        what, less = f"{quantity} at {task.setting} takes", "fewer inputs, seeds, steps or particles"
    return (
        f"protocol: {what} {cost.bytes / 2**30:.1f} GiB, and workers have {limits.bytes / 2**30:.1f} GiB. Ask for "
        f"{less}, or raise NNGP_MEMORY_LIMIT."
    )
