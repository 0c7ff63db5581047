"""A study of functions: networks are drawn or trained, functions chosen and counted, and their quantities computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from nngp_prior import style
from nngp_prior.experiments.execution import execute, mixed_versions
from nngp_prior.experiments.frequencies.choice import (
    CHOOSING,
    COUNTING,
    choice_key,
    choose,
    draws_file,
    from_hex,
    trained_key,
)
from nngp_prior.experiments.frequencies.cost import cost_of
from nngp_prior.experiments.frequencies.tasks import FunctionTask, by_context, carry_out, quantity_key
from nngp_prior.experiments.grid import Setting, settings_of
from nngp_prior.experiments.store import Store, opened
from nngp_prior.progress import Progress, ProgressCallback, ProgressOption, shown
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.frequencies import Complexity, FrequencyProtocol, FunctionQuantity, SampledLogP
from nngp_prior.schemas.results.estimate import Counts
from nngp_prior.schemas.results.sample import bits_of
from nngp_prior.schemas.table import Table, Tabular, columns_of
from nngp_prior.schemas.text import csv_text, number_of
from nngp_prior.schemas.titles import in_words

TOGETHER = 100  # networks trained together
_BLOCKS = 4  # tasks of one quantity, to be carried out in parallel

_Settings = Sequence[Setting[FrequencyProtocol]]


@dataclass(frozen=True, repr=False)
class FrequencyStudy(Tabular):
    """Results of a study of functions, complete or not; the data frame has the ``rows``.

    Attributes:
        protocol: the protocol.
        settings: its settings.
        folder: folder of the results.
        choices: of each setting how its functions were chosen, and sums over all functions; None until they are.
        rows: a row for each function: ``setting`` (its index), the axes' values, ``rank`` among the networks that
            choose, ``function`` (bits in the order of the inputs), ``ones``, ``chosen_by`` (number of networks that
            choose), ``count`` and ``networks`` (those that count, with the function and in all), ``log_frequency`` with
            the interval ``low`` to ``high``, ``test_error`` of trained networks, and for each quantity ``NAME``,
            ``NAME.stderr`` and ``NAME.status``.
        problems: explanations of what has no value.
    """

    protocol: FrequencyProtocol
    settings: tuple[Setting[FrequencyProtocol], ...]
    folder: Path
    choices: tuple[Mapping[str, Any] | None, ...]
    rows: tuple[dict[str, Any], ...]
    problems: tuple[str, ...]

    @override
    def _summary(self) -> str:
        return f"{self.protocol.name}: {self.state}"

    @override
    def _table(self) -> Table:
        counted = ("rank", "function", "count", "networks", "log_frequency", "low", "high")
        return Table(columns_of(self.rows, ("setting", *self.protocol.axes, *counted, *self.quantities)), self.rows)

    @override
    def _draw(self, ax: Any) -> None:
        """Draw the log frequency of functions against the first quantity."""
        name = self.quantities[0]
        found = [[row.get(each) for each in (name, "log_frequency", "low", "high")] for row in self.rows]
        x, *frequency = np.array(found, float).reshape(-1, 4).T
        style.points(ax, x, *frequency)
        ax.set(xlabel=in_words(name), ylabel="log frequency (nats)", title=self.protocol.name)

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names of the quantities."""
        return tuple(each.name for each in self.protocol.quantities)

    @property
    def state(self) -> str:
        """Numbers of functions and networks, in words."""
        whole = f"{number_of(len(self.rows), 'function')} of {number_of(self.protocol.networks, 'network')}"
        return whole + (" (unfinished)" if None in self.choices else "")

    def of_setting(self, index: int) -> list[dict[str, Any]]:
        """Return the rows of a setting."""
        return [row for row in self.rows if row["setting"] == index]

    def to_csv(self) -> str:
        """Return the rows as CSV."""
        return csv_text(self.rows)


def run(
    protocol: FrequencyProtocol,
    folder: Path,
    workers: int | None,
    executor: Executor | None,
    progress: ProgressOption,
) -> FrequencyStudy:
    """Run a study of functions, or what is left of it; see :func:`nngp_prior.experiments.run`.

    Args:
        protocol: the protocol.
        folder: folder of the results.
        workers: number of processes; None to carry out the tasks one after another.
        executor: executor of the tasks, in place of processes.
        progress: as for :func:`nngp_prior.experiments.run`.

    Returns:
        the results.
    """
    settings = settings_of(protocol)
    with opened(folder) as store, shown(progress, protocol.name, rows=True) as tell:
        _carry_out_all(settings, store, workers, executor, tell)
        study = collect(protocol, store)
        store.write("protocol.json", protocol.model_dump_json(indent=2) + "\n")
        store.write("results.csv", study.to_csv())
        return study


def expected_cost(protocol: FrequencyProtocol, store: Store, workers: int) -> Cost | None:
    """Return the expected cost of what is left of a study.

    Args:
        protocol: the protocol.
        store: results so far.
        workers: number of processes.

    Returns:
        the cost; None if nothing is left.
    """
    settings = settings_of(protocol)
    return cost_of(settings, _left(settings, store), store, workers)


def collect(protocol: FrequencyProtocol, store: Store) -> FrequencyStudy:
    """Collect the rows of a protocol from a store.

    Args:
        protocol: the protocol.
        store: results, complete or not.

    Returns:
        the study.
    """
    settings = settings_of(protocol)
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    used: list[Mapping[str, Any]] = []
    for index, setting in enumerate(settings):
        choice = store.get(choice_key(setting))
        if choice is None:
            continue
        problems += [f"{setting}: {each}" for each in _of_training(setting, store)]
        problems += [f"{setting}: {choice['message']}"] if choice["message"] else []
        labels = (
            from_hex([each["function"] for each in choice["functions"]], choice["inputs"])
            if choice["functions"]
            else ()
        )
        for each, y in zip(choice["functions"], labels, strict=True):
            evidence = Counts(hits=each["count"], draws=choice["networks"][COUNTING])
            low, high = evidence.interval(protocol.statistics.level)
            row: dict[str, Any] = {
                "setting": index,
                **setting.values,
                "rank": each["rank"],
                "function": bits_of(y),
                "ones": int(np.sum(y > 0)),
                "chosen_by": each["chosen_by"],
                "count": each["count"],
                "networks": evidence.draws,
                "log_frequency": evidence.value(),
                "low": low,
                "high": high,
            }
            row |= {"test_error": each["test_error"]} if "test_error" in each else {}
            for quantity in protocol.quantities:
                found = store.get(quantity_key(setting, quantity, each["function"]))
                if found is None:
                    continue
                used.append(found)
                name = quantity.name
                row |= {name: found["value"], f"{name}.stderr": found["stderr"], f"{name}.status": found["status"]}
                if found["message"]:
                    problems.append(f"{setting}, function {each['rank']}, {name}: {found['message']}")
            rows.append(row)
    choices = tuple(store.get(choice_key(setting)) for setting in settings)
    return FrequencyStudy(
        protocol, tuple(settings), store.folder, choices, tuple(rows), (*mixed_versions(used), *problems)
    )


def _of_training(setting: Setting[FrequencyProtocol], store: Store) -> list[str]:
    """Explain networks that did not reach the goal, the first one by its message."""
    if setting.protocol.training is None:
        return []
    rows = [store.get(trained_key(setting, number)) for number in range(setting.protocol.seeds)]
    messages = [row["message"] for row in rows if row is not None and row["message"]]
    return [f"{number_of(len(messages), 'network')} without a function: {messages[0]}"] if messages else []


def _carry_out_all(
    settings: _Settings, store: Store, workers: int | None, executor: Executor | None, tell: ProgressCallback
) -> None:
    left = _left(settings, store)
    quantities = [quantity for alike in by_context(settings) for quantity in alike[0].protocol.quantities]
    networks = len(tasks_of_networks(settings))
    total, remaining = networks + sum(map(blocks_of, quantities)), len(left)

    def follow(task: FunctionTask) -> Sequence[FunctionTask]:
        nonlocal remaining
        remaining -= task.kind != "quantity"
        return _chosen(settings, store) if task.kind != "quantity" and not remaining else ()

    tasks = left or _chosen(settings, store)
    before = networks - len(left) if left else total - len(tasks)
    # There may be fewer functions than expected, and tasks differ too much to extrapolate from some of them.
    tell(Progress("tasks", before, total, cost_of(settings, left, store, workers or 1), at_most=True))
    execute(tasks, carry_out, store, workers, executor, tell, Progress("tasks", before, total), follow)
    if tasks:  # blocks without functions are no tasks
        tell(Progress("tasks", total, total))


def tasks_of_networks(settings: _Settings) -> list[FunctionTask]:
    """Return all tasks that draw or train networks."""
    tasks = []
    for setting in settings:
        seeds = setting.protocol.seeds
        if setting.protocol.training is None:
            tasks += [FunctionTask("sample", setting, (half,)) for half in (CHOOSING, COUNTING)]
        else:
            blocks = (range(first, min(first + TOGETHER, seeds)) for first in range(0, seeds, TOGETHER))
            tasks += [FunctionTask("train", setting, tuple(numbers)) for numbers in blocks]
    return tasks


def blocks_of(quantity: FunctionQuantity) -> int:
    """Return the number of tasks of a quantity, to be carried out in parallel."""
    return 1 if isinstance(quantity, SampledLogP | Complexity) else _BLOCKS


def functions_of(alike: _Settings, store: Store) -> list[str]:
    """Return the chosen functions of settings whose functions have the same quantities.

    Args:
        alike: the settings.
        store: store with their choices.

    Returns:
        distinct functions as hexadecimal digits, in the order of the settings and of their ranks.
    """
    choices = [store.get(choice_key(setting)) or {"functions": ()} for setting in alike]
    return list(dict.fromkeys(each["function"] for choice in choices for each in choice["functions"]))


def is_done(task: FunctionTask, store: Store) -> bool:
    """True if the results of a task, and its draws, are in the folder."""
    if task.kind == "sample" and not draws_file(task.setting, task.numbers[0], store.folder).exists():
        return False
    return all(key in store for key in task.keys)


def _left(settings: _Settings, store: Store) -> list[FunctionTask]:
    """Tasks of networks that are left; those of settings whose functions are chosen are done."""
    open_ = [setting for setting in settings if choice_key(setting) not in store]
    return [task for task in tasks_of_networks(open_) if not is_done(task, store)]


def _chosen(settings: _Settings, store: Store) -> list[FunctionTask]:
    """Choose the functions of all settings, and return the tasks of their quantities that are left."""
    for setting in settings:
        if choice_key(setting) not in store:
            store.add(choice_key(setting), choose(setting, store))
    tasks = []
    for alike in by_context(settings):
        setting, functions = alike[0], functions_of(alike, store)
        for quantity in setting.protocol.quantities:
            missing = [each for each in functions if quantity_key(setting, quantity, each) not in store]
            parts = (tuple(missing[block :: blocks_of(quantity)]) for block in range(blocks_of(quantity)))
            tasks += [FunctionTask("quantity", setting, (), quantity, part) for part in parts if part]
    return tasks
