"""A study: its networks are trained and measured in tasks, one process or many, and what is finished is kept."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from typing_extensions import override

from nngp_prior import style
from nngp_prior.errors import InvalidInput
from nngp_prior.executors import checked_executor
from nngp_prior.experiments.cost import cost_of
from nngp_prior.experiments.execution import execute, mixed_versions
from nngp_prior.experiments.frequencies import study as frequencies
from nngp_prior.experiments.frequencies.study import FrequencyStudy
from nngp_prior.experiments.grid import Setting, settings_of
from nngp_prior.experiments.store import Store, opened
from nngp_prior.experiments.tasks import Task, is_trained
from nngp_prior.progress import Progress, ProgressCallback, ProgressOption, shown
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.frequencies import ANY_PROTOCOL, FrequencyProtocol
from nngp_prior.schemas.protocol_files import read_protocol
from nngp_prior.schemas.protocols import Protocol
from nngp_prior.schemas.quantities import Group, Quantity, expected_sign, group_of
from nngp_prior.schemas.table import Table, Tabular, columns_of
from nngp_prior.schemas.text import csv_text, differing
from nngp_prior.schemas.titles import in_words

_SIGNED = "lambda_min"  # neither larger nor smaller values are flatter
_OF_TRAINING = ("status", "epochs", "training_loss", "training_error", "attack_error", "test_error")


class Described(NamedTuple):
    """Description of a quantity of a study.

    Attributes:
        expected: sign of the correlation with the test accuracy that is expected; 0 if none is.
        group: log probability, other quantity of the prior, or flatness.
    """

    expected: int
    group: Group


@dataclass(frozen=True, repr=False)
class Study(Tabular):
    """Results of a study, complete or not; the data frame has the ``rows``.

    Attributes:
        protocol: the protocol.
        settings: its settings.
        folder: folder of the results.
        rows: a row for each finished network: ``setting`` (its index), ``network``, the axes' values, the results of
            training, and for each quantity ``NAME``, ``NAME.stderr`` and ``NAME.status``. With a course, a row for each
            of its moments, with ``epoch`` and ``rescaled``.
        quantities: description of each quantity by name, in the protocol's order.
        problems: explanations of what has no value.
    """

    protocol: Protocol
    settings: tuple[Setting[Protocol], ...]
    folder: Path
    rows: tuple[dict[str, Any], ...]
    quantities: Mapping[str, Described]
    problems: tuple[str, ...]

    @override
    def _summary(self) -> str:
        return f"{self.protocol.name}: {self.finished:,} of {self.total:,} networks"

    @override
    def _table(self) -> Table:
        shown = ("setting", "network", *self.protocol.axes, "epoch", "training_error", "test_error", *self.quantities)
        return Table(columns_of(self.rows, shown), self.rows)

    @override
    def _draw(self, ax: Any) -> None:
        """Draw the first quantity with a value against the test accuracy."""
        name = next((name for name in self.quantities if np.isfinite(self.column(name)).any()), "test_error")
        rows = [row for row in self.rows if row.get(name) is not None and row.get("test_error") is not None]
        x, error = (np.array([row[column] for row in rows], float) for column in (name, "test_error"))
        stderr = np.array([row.get(f"{name}.stderr") or 0.0 for row in rows], float)
        ax.errorbar(x, 1 - error, self.accuracy_errors(rows), stderr, fmt="o", color=style.INK, ms=4, elinewidth=0.7)
        unit = " (nats)" if name in self.quantities and self.quantities[name].group == "log-p" else ""
        ax.set(xlabel=in_words(name) + unit, ylabel="test accuracy", title=self.protocol.name)

    @property
    def finished(self) -> int:
        """Number of trained networks."""
        return len({(row["setting"], row["network"]) for row in self.rows})

    @property
    def total(self) -> int:
        """Number of networks of the protocol."""
        return self.protocol.networks

    def accuracy_errors(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Return standard errors of the test accuracies of rows, due to finite test sets; at least 1/t for t inputs."""
        errors = np.array([row["test_error"] for row in rows], float)
        tests = np.array([self.settings[row["setting"]].protocol.data.test for row in rows], float)
        return np.sqrt(np.maximum(errors * (1 - errors), 1 / tests) / tests)

    def column(self, name: str) -> np.ndarray:
        """Return a numeric column of the rows; NaN where it is missing."""
        return np.array([math.nan if row.get(name) is None else row[name] for row in self.rows], float)

    def to_csv(self) -> str:
        """Return the rows as CSV."""
        return csv_text(self.rows)


@overload
def run(
    protocol: Protocol,
    folder: str | Path,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: ProgressOption = None,
) -> Study: ...
@overload
def run(
    protocol: FrequencyProtocol,
    folder: str | Path,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: ProgressOption = None,
) -> FrequencyStudy: ...
@overload
def run(
    protocol: Protocol | FrequencyProtocol | str | Path,
    folder: str | Path,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: ProgressOption = None,
) -> Study | FrequencyStudy: ...
def run(
    protocol: Protocol | FrequencyProtocol | str | Path,
    folder: str | Path,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: ProgressOption = None,
) -> Study | FrequencyStudy:
    """Run a study, or what is left of it.

    Each result is on the disk when it is finished, in ``rows.jsonl`` and ``networks/``. The same call continues after
    an interruption; nothing is trained or estimated twice, and the results are those of an uninterrupted run. A
    protocol with further values of an axis, or further quantities, uses the results of the earlier one in the same
    folder.

    Args:
        protocol: protocol, path of its TOML file, or name of a protocol of the package.
        folder: folder of the results, which is created; executors' workers must reach it by the same path.
        workers: number of processes that carry out the tasks. Default: this process carries them out one after another.
            With ``executor``: number of tasks that it carries out at a time, for the expected cost; default: 1.
        executor: executor whose workers carry out the tasks, with the same result; see
            :func:`nngp_prior.log_probabilities`. Default: ``workers``.
        progress: True to show progress, or a callback, called with the expected cost, after each task, and within tasks
            unless ``executor`` carries them out.

    Returns:
        the results; ``results.csv`` and ``protocol.json`` are in the folder.

    Raises:
        InvalidInput: if the protocol, the folder or the number of workers is invalid.
        DataUnavailable: if data are missing.
        ResourceLimit: if a worker died; the same call continues with what is left.
    """
    if workers is not None and workers < 1:
        raise InvalidInput("workers", f"got {workers}", "Pass at least 1, or None for this process alone.")
    if executor is not None:
        checked_executor(executor)
    protocol = read_protocol(protocol) if isinstance(protocol, str | Path) else protocol
    if isinstance(protocol, FrequencyProtocol):
        return frequencies.run(protocol, Path(folder), workers, executor, progress)
    settings = settings_of(protocol)
    with opened(Path(folder)) as store, shown(progress, protocol.name, rows=True) as tell:
        _carry_out_all(protocol, settings, store, workers, executor, tell)
        study = study_of(protocol, settings, store)
        store.write("protocol.json", protocol.model_dump_json(indent=2) + "\n")
        store.write("results.csv", study.to_csv())
        return study


def load(folder: str | Path) -> Study | FrequencyStudy:
    """Read the results of a study, which may be incomplete.

    Args:
        folder: folder of the results.

    Returns:
        the results.

    Raises:
        InvalidInput: if the folder has no study.
    """
    path = Path(folder) / "protocol.json"
    if not path.is_file():
        raise InvalidInput("folder", f"{folder} has no study (no protocol.json)", "Name the folder of a run.")
    protocol, store = ANY_PROTOCOL.validate_json(path.read_text()), Store(Path(folder))
    if isinstance(protocol, FrequencyProtocol):
        return frequencies.collect(protocol, store)
    return study_of(protocol, settings_of(protocol), store)


def expected_cost(protocol: Protocol | FrequencyProtocol, folder: str | Path, workers: int = 1) -> Cost | None:
    """Return the expected cost of what is left of a study.

    Args:
        protocol: the protocol.
        folder: folder of the results, which may not exist.
        workers: number of processes, or of tasks that an executor carries out at a time.

    Returns:
        the cost; None if nothing is left.
    """
    store = Store(Path(folder))
    if isinstance(protocol, FrequencyProtocol):
        return frequencies.expected_cost(protocol, store, workers)
    tasks = tasks_of(protocol, settings_of(protocol))
    return cost_of([task for task in tasks if not is_done(task, store)], store, workers)


def tasks_of(protocol: Protocol, settings: Sequence[Setting[Protocol]]) -> Iterator[Task]:
    """Yield all tasks: for each setting its training, then a task for each quantity and, of measures, each network."""
    numbers = tuple(range(protocol.seeds))
    moments = [None] if protocol.course is None else range(len(protocol.course.moments))
    for setting in settings:
        yield Task("train", setting, numbers)
        for quantity, moment in itertools.product(protocol.quantities, moments):
            if group_of(quantity) == "flatness":
                for i in numbers:
                    yield Task("measure", setting, (i,), quantity, moment)
            else:
                yield Task("prior", setting, numbers, quantity, moment)


def _carry_out_all(
    protocol: Protocol,
    settings: Sequence[Setting[Protocol]],
    store: Store,
    workers: int | None,
    executor: Executor | None,
    tell: ProgressCallback,
) -> None:
    tasks = list(tasks_of(protocol, settings))
    left, total = [task for task in tasks if not is_done(task, store)], len(tasks)
    tell(Progress("tasks", total - len(left), total, cost_of(left, store, workers or 1)))
    waiting: dict[str, list[Task]] = {}
    untrained = {task.setting.key for task in left if task.kind == "train"}
    ready: list[Task] = []
    for task in left:
        if task.kind != "train" and task.setting.key in untrained:
            waiting.setdefault(task.setting.key, []).append(task)
        else:
            ready.append(task)

    def follow(task: Task) -> Sequence[Task]:
        # Measured before the next setting is trained, so that rows are complete early.
        return waiting.pop(task.setting.key, ()) if task.kind == "train" else ()

    from nngp_prior.experiments.work import carry_out  # loads JAX, which planning does not need

    execute(ready, carry_out, store, workers, executor, tell, Progress("tasks", total - len(left), total), follow)


def is_done(task: Task, store: Store) -> bool:
    """True if the results of a task, and its networks, are in the folder."""
    if task.kind == "train" and not is_trained(task.setting, store.folder):
        return False
    return all(key in store for key in task.keys)


def study_of(protocol: Protocol, settings: Sequence[Setting[Protocol]], store: Store) -> Study:
    """Collect the results of a study from its store.

    Args:
        protocol: the protocol.
        settings: its settings.
        store: the store.

    Returns:
        the results, complete or not.
    """
    rows: dict[tuple[int, int, int | None], dict[str, Any]] = {}
    found_rows: list[dict[str, Any]] = []
    problems: dict[tuple[int, int, int | None], list[str]] = {}
    quantities: dict[str, Described] = {}
    for index, setting in enumerate(settings):
        for task in tasks_of(protocol, [setting]):
            for number, key in zip(task.networks, task.keys, strict=True):
                found = store.get(key)
                if found is None:
                    continue
                found_rows.append(found)
                if task.kind == "train":
                    of_network = {"setting": index, "network": number, **setting.values}
                    for moment, trained in _moments(found, protocol):
                        rows[index, number, moment] = of_network | trained
                place = (index, number, None if protocol.course is None else task.moment or 0)
                if place not in rows:
                    continue
                if found["message"]:
                    problems.setdefault(place, []).append(f"{setting}, network {number}: {found['message']}")
                for each in found.get("values", ()):
                    assert task.quantity is not None
                    name = each["name"] + _suffix(task.quantity, protocol)
                    sign = 0 if each["name"] == _SIGNED else expected_sign(task.quantity)
                    quantities[name] = Described(sign, group_of(task.quantity))
                    values = {name: each["value"], f"{name}.stderr": each["stderr"], f"{name}.status": each["status"]}
                    rows[place] |= values
    listed = [*mixed_versions(found_rows), *(problem for place in rows for problem in problems.get(place, ()))]
    return Study(protocol, tuple(settings), store.folder, tuple(rows.values()), quantities, tuple(listed))


def _moments(found: Mapping[str, Any], protocol: Protocol) -> Iterator[tuple[int | None, dict[str, Any]]]:
    """Yield the results of training of a network: at the end, or at each moment of the course."""
    if protocol.course is None:
        yield None, {name: found[name] for name in _OF_TRAINING if found.get(name) is not None}
        return
    for index, (moment, own) in enumerate(zip(protocol.course.moments, found["course"], strict=True)):
        yield index, {**moment._asdict(), **{name: own[name] for name in _OF_TRAINING if own.get(name) is not None}}


def _suffix(quantity: Quantity, protocol: Protocol) -> str:
    """Options of a measure that differ from those of another one of the same kind, to tell their quantities apart."""
    alike = [each for each in protocol.quantities if each.kind == quantity.kind]
    names = [getattr(each, "name", None) for each in alike]
    if len(alike) == 1 or (None not in names and len(set(names)) == len(names)):
        return ""
    return f"({differing(quantity.as_json, [each.as_json for each in alike])})"
