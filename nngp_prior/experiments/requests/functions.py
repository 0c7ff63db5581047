"""Requests for studies of functions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from typing_extensions import override

from nngp_prior.data.splits import Outlines
from nngp_prior.experiments.frequencies.choice import choice_key, choose
from nngp_prior.experiments.frequencies.cost import Costs
from nngp_prior.experiments.frequencies.inputs import shapes_of
from nngp_prior.experiments.frequencies.study import (
    TOGETHER,
    blocks_of,
    collect,
    functions_of,
    is_done,
    tasks_of_networks,
)
from nngp_prior.experiments.frequencies.tasks import FunctionTask, by_context, carry_out
from nngp_prior.experiments.grid import Setting, settings_of
from nngp_prior.experiments.requests.base import FIGURE, REPORT_BYTES, RESAMPLE, RequestedStudy, require_few, status_of
from nngp_prior.experiments.store import Store
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.frequencies import FrequencyProtocol, FunctionQuantity
from nngp_prior.schemas.results.base import finite

_PHASES = {"sample": 0, "train": 0, "choose": 1, "quantity": 2}


class Step(NamedTuple):
    """A task planned before the functions are chosen.

    Attributes:
        kind: ``sample`` or ``train`` as of :class:`FunctionTask`; ``choose``; or ``quantity`` of some functions.
        setting: the setting.
        networks: the task that draws or trains networks.
        quantity: the quantity.
        block: b for functions b, b + B, b + 2B, ... of B blocks.
        alike: settings whose functions have the quantity.
    """

    kind: str
    setting: Setting[FrequencyProtocol]
    networks: FunctionTask | None = None
    quantity: FunctionQuantity | None = None
    block: int = 0
    alike: tuple[Setting[FrequencyProtocol], ...] = ()


class FunctionStudy(RequestedStudy[FrequencyProtocol, Step]):
    """All networks are drawn or trained, then the functions of each setting chosen, then their quantities computed."""

    last = 3

    @override
    def __init__(self, protocol: FrequencyProtocol) -> None:
        self._protocol = protocol
        self._settings = settings_of(protocol)
        networks = 2 if protocol.training is None else math.ceil(protocol.seeds / TOGETHER)
        count = len(self._settings) * (networks + 1 + len(protocol.quantities))
        require_few(count, f"{protocol.networks:,} networks and {len(protocol.quantities)} quantities")
        self._networks = {setting.key: tasks_of_networks([setting]) for setting in self._settings}
        drawn = [Step(task.kind, task.setting, task) for tasks in self._networks.values() for task in tasks]
        choices = [Step("choose", setting) for setting in self._settings]
        quantities = [
            Step("quantity", alike[0], None, quantity, block, tuple(alike))
            for alike in by_context(self._settings)
            for quantity in protocol.quantities
            for block in range(blocks_of(quantity))
        ]
        self.tasks = [*drawn, *choices, *quantities]

    @property
    @override
    def n(self) -> int:
        return shapes_of(self._settings[0].protocol, Outlines()).functions[0]

    @override
    def phase(self, task: Step) -> int:
        return _PHASES[task.kind]

    @override
    def cores(self, task: Step) -> int:
        return 0 if task.kind == "sample" else 1

    @override
    def together(self, task: Step, other: Step) -> bool:
        """Quantities of a setting share its inputs and its kernel."""
        return task.kind == other.kind == "quantity" and task.setting is other.setting

    @override
    def title(self, task: Step) -> str:
        names = {"sample": "drawing networks", "train": "training", "choose": "choosing functions"}
        what = names[task.kind] if task.quantity is None else task.quantity.name
        return f"{what} at {task.setting}"

    @override
    def costs(self, tasks: Sequence[Step], store: Store) -> Iterator[Cost]:
        costs = Costs(store)
        for task in tasks:
            if task.networks is not None:
                yield costs.of_networks(task.networks)
            elif task.quantity is None:
                yield costs.of_choice(task.setting)
            else:
                most = math.ceil(len(task.alike) * self._protocol.functions / blocks_of(task.quantity))
                yield costs.of_quantity(task.setting, task.quantity, most)

    @override
    def cost_of_study(self) -> Cost:
        quantities = len(self._protocol.quantities) * len(self._settings)
        return Cost(REPORT_BYTES, quantities * (FIGURE + self._protocol.statistics.resamples * RESAMPLE))

    @override
    def is_done(self, task: Step, store: Store) -> bool:
        if task.kind == "choose":
            return choice_key(task.setting) in store
        if task.networks is not None:
            return is_done(task.networks, store)
        return self._is_chosen(task, store) and is_done(self._of_functions(task, store), store)

    @override
    def row(self, task: Step, store: Store, progress: ProgressCallback) -> dict[str, Any]:
        if task.kind == "choose":
            needed = all(is_done(each, store) for each in self._networks[task.setting.key])
            message = "Networks are missing. Post the request again."
        else:
            needed = task.networks is not None or self._is_chosen(task, store)
            message = "Its functions are not chosen. Post the request again."
        results: list[dict[str, Any]] = []
        if needed and task.kind == "choose":
            key = choice_key(task.setting)
            store.add_missing([] if key in store else [(key, choose(task.setting, store))])
            results = [store.get(key) or {}]
        elif needed:
            own = self._of_functions(task, store) if task.networks is None else task.networks
            if not is_done(own, store):
                store.add_missing(carry_out(own, store.folder, progress))
            names = [{"function": each} for each in own.functions] or [{"network": each} for each in own.numbers]
            if own.kind == "sample":
                names = [{"half": each} for each in own.numbers]
            results = [{**name, **(store.get(key) or {})} for name, key in zip(names, own.keys, strict=True)]
        return {
            "task": task.kind,
            "setting": dict(task.setting.values),
            "quantity": None if task.quantity is None else task.quantity.name,
            "status": "ok" if needed else "incomplete",
            "message": "" if needed else message,
            "results": finite(results),
        }

    @override
    def study(self, store: Store) -> dict[str, Any]:
        from nngp_prior.experiments.frequencies.analysis import summary
        from nngp_prior.experiments.report import write_report

        missing = [f"{self.title(task)}: has no result" for task in self.tasks if not self.is_done(task, store)]
        study = collect(self._protocol, store)
        store.write("results.csv", study.to_csv())
        verdicts = write_report(study)
        return {
            **status_of(missing),
            "rows": finite(list(study.rows)),
            "verdicts": [verdict.as_json() for verdict in verdicts],
            "changes": [],
            "problems": [*study.problems, *missing],
            "summary": " ".join(summary(verdicts, self._protocol.training is not None)),
        }

    def _is_chosen(self, task: Step, store: Store) -> bool:
        return all(choice_key(each) in store for each in task.alike)

    def _of_functions(self, task: Step, store: Store) -> FunctionTask:
        """Task of the functions of a block, which are chosen."""
        assert task.quantity is not None
        functions = functions_of(task.alike, store)[task.block :: blocks_of(task.quantity)]
        return FunctionTask("quantity", task.setting, (), task.quantity, tuple(functions))
