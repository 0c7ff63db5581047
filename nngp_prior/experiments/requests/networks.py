"""Requests for studies of networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from typing_extensions import override

from nngp_prior.errors import InvalidInput
from nngp_prior.experiments.cost import costs_of
from nngp_prior.experiments.grid import settings_of
from nngp_prior.experiments.requests.base import (
    FIGURE,
    MOST_TASKS,
    REPORT_BYTES,
    RESAMPLE,
    RequestedStudy,
    require_few,
    status_of,
)
from nngp_prior.experiments.store import Store
from nngp_prior.experiments.study import is_done, study_of, tasks_of
from nngp_prior.experiments.tasks import Task, is_trained
from nngp_prior.probability import SMALL
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.protocols import Protocol
from nngp_prior.schemas.results.base import finite

_MOST_MOMENTS = 10_000
_PAIR_BYTES, _PAIR, _INFORMATION = 150, 5e-8, 3e-6  # bytes, and seconds per resample and in all, of a pair of networks
_TRAINING, _QUANTITIES = 0, 1  # phases


class NetworkStudy(RequestedStudy[Protocol, Task]):
    """First all networks are trained, then their quantities are computed."""

    last = 2

    @override
    def __init__(self, protocol: Protocol) -> None:
        course = protocol.course
        if course is not None and course.epochs // course.every > _MOST_MOMENTS:
            problem = f"got {course.every} of {course.epochs:,} epochs, more than {_MOST_MOMENTS:,} measurements"
            raise InvalidInput("course.every", problem, "Measure less often.")
        self._protocol = protocol
        self._settings = settings_of(protocol)
        self.tasks = list(islice(tasks_of(protocol, self._settings), MOST_TASKS + 1))
        require_few(len(self.tasks), f"{protocol.networks:,} networks and {len(protocol.quantities)} quantities")

    @property
    @override
    def n(self) -> int:
        dataset = self._protocol.data.dataset
        assert dataset is not None
        assert dataset.n is not None
        return dataset.n

    @override
    def phase(self, task: Task) -> int:
        return _TRAINING if task.kind == "train" else _QUANTITIES

    @override
    def cores(self, task: Task) -> int:
        data = task.setting.protocol.data
        n = data.dataset.n if data.dataset is not None and data.dataset.n is not None else 0
        return 0 if task.kind == "prior" and n + data.test > SMALL else 1

    @override
    def together(self, task: Task, other: Task) -> bool:
        """Quantities of a setting share data, networks and kernel."""
        return task.kind != "train" and task.setting is other.setting

    @override
    def title(self, task: Task) -> str:
        return f"{_quantity(task) or 'training'} at {task.setting}"

    @override
    def costs(self, tasks: Sequence[Task], store: Store) -> Iterator[Cost]:
        return costs_of(tasks, store)

    @override
    def cost_of_study(self) -> Cost:
        pairs, quantities = self._protocol.networks**2, len(self._protocol.quantities)
        resampling = self._protocol.statistics.resamples * (RESAMPLE + pairs * _PAIR)
        seconds = quantities * (FIGURE + resampling + pairs * _INFORMATION)
        return Cost(REPORT_BYTES + pairs * _PAIR_BYTES, seconds)

    @override
    def is_done(self, task: Task, store: Store) -> bool:
        return is_done(task, store)

    @override
    def row(self, task: Task, store: Store, progress: ProgressCallback) -> dict[str, Any]:
        from nngp_prior.experiments.work import carry_out

        status, message = "ok", ""
        if not is_done(task, store):
            if task.kind != "train" and not is_trained(task.setting, store.folder):
                status, message = "incomplete", "Its networks are not trained. Post the request again."
            else:
                store.add_missing(carry_out(task, store.folder, progress))
        results = [{"network": i, **(store.get(key) or {})} for i, key in zip(task.networks, task.keys, strict=True)]
        return {
            "task": task.kind,
            "setting": dict(task.setting.values),
            "quantity": _quantity(task),
            "status": status,
            "message": message,
            "results": [] if status == "incomplete" else finite(results),
        }

    @override
    def study(self, store: Store) -> dict[str, Any]:
        from nngp_prior.experiments.analysis import summary
        from nngp_prior.experiments.changes import changes, summary_of_course
        from nngp_prior.experiments.report import write_report

        missing = [
            f"{_named(task)}: has no result" for task in self.tasks if any(key not in store for key in task.keys)
        ]
        study = study_of(self._protocol, self._settings, store)
        store.write("results.csv", study.to_csv())
        verdicts, changed = write_report(study), changes(study)
        return {
            **status_of(missing),
            "rows": finite(list(study.rows)),
            "verdicts": [verdict.as_json() for verdict in verdicts],
            "changes": finite([each._asdict() for each in changed]),
            "problems": [*study.problems, *missing],
            "summary": summary(verdicts) if verdicts else summary_of_course(changed),
        }


def _named(task: Task) -> str:
    return f"{task.setting}, network {', '.join(map(str, task.networks))}: {_quantity(task) or 'training'}"


def _quantity(task: Task) -> str | None:
    return None if task.quantity is None else getattr(task.quantity, "name", task.quantity.kind)
