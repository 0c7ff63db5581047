"""A study: its networks are trained and measured in tasks, one process or many, and what is finished is kept."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nngp_prior.errors import InvalidInput, ResourceLimit
from nngp_prior.experiments.files import read_protocol
from nngp_prior.experiments.grid import Setting, settings_of
from nngp_prior.experiments.store import Store, opened
from nngp_prior.experiments.tasks import Rows, Task, carry_out, networks_file, sets_of
from nngp_prior.kernels import kernel_cost
from nngp_prior.numerics.threads import cores
from nngp_prior.prior.uncertain_kernel import BOOTSTRAPS
from nngp_prior.probability import memory_needed, seconds_needed
from nngp_prior.progress import Progress, ProgressCallback, ProgressOption, shown, without_cost
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.measures.gradients import GradientDiversity, GradientNoiseScale, GradientStiffness
from nngp_prior.schemas.protocols import LogP, LogPosterior, Protocol, Quantity
from nngp_prior.schemas.specs.estimator import SMC
from nngp_prior.sharpness.cost import measuring_cost, training_cost

_EPOCHS = 100  # guessed number of epochs until the goal
_SIGNED = "lambda_min"  # neither larger nor smaller values are flatter
_OF_TRAINING = ("status", "epochs", "training_loss", "training_error", "attack_error", "test_error")


@dataclass(frozen=True)
class Study:
    """Results of a study, complete or not.

    Attributes:
        protocol: the protocol.
        settings: its settings.
        folder: folder of the results.
        rows: a row for each finished network: ``setting`` (its index), ``network``, the axes' values, the results of
            training, and for each quantity ``NAME``, ``NAME.stderr`` and ``NAME.status``.
        expected: sign of the correlation with the test accuracy that is expected of each quantity, in the protocol's
            order; 0 if none is.
        problems: explanations of what has no value.
    """

    protocol: Protocol
    settings: tuple[Setting, ...]
    folder: Path
    rows: tuple[dict[str, Any], ...]
    expected: Mapping[str, int]
    problems: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Study {self.protocol.name}: {len(self.rows):,} of {self.total:,} networks>"

    @property
    def total(self) -> int:
        """Number of networks of the protocol."""
        return len(self.settings) * self.protocol.seeds

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names of the quantities."""
        return tuple(self.expected)

    @property
    def tests(self) -> int:
        """Number of test inputs of each network."""
        return self.protocol.data.test

    def column(self, name: str) -> np.ndarray:
        """Return a numeric column of the rows; NaN where it is missing."""
        return np.array([math.nan if row.get(name) is None else row[name] for row in self.rows], float)

    def to_csv(self) -> str:
        """Return the rows as CSV."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()


def run(
    protocol: Protocol | str | Path,
    folder: str | Path,
    *,
    executor: Executor | None = None,
    progress: ProgressOption = None,
) -> Study:
    """Run a study, or what is left of it.

    Each result is on the disk when it is finished, in ``rows.jsonl`` and ``networks/``. The same call continues after
    an interruption; nothing is trained or estimated twice, and the results are those of an uninterrupted run. A
    protocol with further values of an axis, networks or quantities uses the results of the earlier one in the same
    folder.

    Args:
        protocol: protocol, path of its TOML file, or name of a protocol of the package.
        folder: folder of the results, which is created; executors' workers must reach it by the same path.
        executor: executor of the tasks, such as a ``ProcessPoolExecutor`` with the start method ``spawn``. Default:
            the tasks are carried out one after another.
        progress: True to show progress, or a callback, called with the expected cost and after each task.

    Returns:
        the results; ``results.csv``, ``protocol.json`` and the report are in the folder.

    Raises:
        InvalidInput: if the protocol or the folder is invalid.
        DataUnavailable: if data are missing.
    """
    protocol = protocol if isinstance(protocol, Protocol) else read_protocol(protocol)
    settings = settings_of(protocol)
    with opened(Path(folder)) as store, shown(progress, protocol.name, rows=True) as tell:
        _carry_out_all(protocol, settings, store, executor, tell)
        study = _study(protocol, settings, store)
        store.write("protocol.json", protocol.model_dump_json(indent=2) + "\n")
        store.write("results.csv", study.to_csv())
        return study


def load(folder: str | Path) -> Study:
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
    protocol = Protocol.model_validate_json(path.read_text())
    return _study(protocol, settings_of(protocol), Store(Path(folder)))


def expected_cost(protocol: Protocol, folder: str | Path, workers: int = 1) -> tuple[int, Cost | None]:
    """Return what is left of a study.

    Args:
        protocol: the protocol.
        folder: folder of the results, which may not exist.
        workers: number of processes.

    Returns:
        number of networks in all, and the expected cost of what is left; None if nothing is.
    """
    settings, store = settings_of(protocol), Store(Path(folder))
    left = [task for task in tasks_of(protocol, settings) if not _is_done(task, store)]
    return len(settings) * protocol.seeds, _cost(left, store, workers)


def tasks_of(protocol: Protocol, settings: Sequence[Setting]) -> Iterator[Task]:
    """Yield all tasks: for each setting its training, then a task for each quantity and, of measures, each network."""
    numbers = tuple(range(protocol.seeds))
    for setting in settings:
        yield Task("train", setting, numbers)
        for quantity in protocol.quantities:
            if isinstance(quantity, LogP | LogPosterior):
                yield Task("log-p", setting, numbers, quantity)
            else:
                for i in numbers:
                    yield Task("measure", setting, (i,), quantity)


class _Serial(Executor):
    """Executor that carries out each call when it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def _carry_out_all(
    protocol: Protocol, settings: Sequence[Setting], store: Store, executor: Executor | None, tell: ProgressCallback
) -> None:
    left = [task for task in tasks_of(protocol, settings) if not _is_done(task, store)]
    total = len(list(tasks_of(protocol, settings)))
    workers = 1 if executor is None else getattr(executor, "_max_workers", cores())
    tell(Progress("tasks", total - len(left), total, _cost(left, store, workers)))
    waiting: dict[str, list[Task]] = {}
    untrained = {task.setting.key for task in left if task.kind == "train"}
    ready: list[Task] = []
    for task in left:
        if task.kind != "train" and task.setting.key in untrained:
            waiting.setdefault(task.setting.key, []).append(task)
        else:
            ready.append(task)
    own = executor or _Serial()
    more = () if executor is not None else (without_cost(tell),)
    running: dict[Future[Any], Task] = {}
    done = total - len(left)
    try:
        while ready or running:
            room = 1 if executor is None else len(ready)
            for task in ready[:room]:
                running[own.submit(carry_out, task, store.folder, *more)] = task
            del ready[:room]
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task = running.pop(future)
                for key, row in _result(future):
                    store.add(key, row)
                if task.kind == "train":
                    # Measured before the next setting is trained, so that rows are complete early.
                    ready[:0] = waiting.pop(task.setting.key, [])
                done += 1
                tell(Progress("tasks", done, total))
    finally:
        for future in running:
            future.cancel()
        wait(running)


def _result(future: Future[Rows]) -> Rows:
    try:
        return future.result()
    except BrokenExecutor as error:
        raise ResourceLimit(
            f"workers: a process ended without a result, perhaps for lack of memory ({error}). Run the same with fewer "
            "workers; what is finished is kept."
        ) from error


def _is_done(task: Task, store: Store) -> bool:
    if task.kind == "train" and not networks_file(task.setting, store.folder).exists():
        return False
    return all(key in store for key in task.keys)


def _cost(tasks: Sequence[Task], store: Store, workers: int) -> Cost | None:
    """Expected cost of tasks; the number of epochs is guessed, from finished networks if there are some."""
    finished = [row["epochs"] for row in store.rows("train")]
    seconds, memory = 0.0, 0
    for task in tasks:
        own, sets = task.setting.protocol, sets_of(task.setting)
        shape = sets.train[0].shape
        n = len(sets.train[1])
        total = n + (0 if sets.test is None else len(sets.test[1]))
        match task.quantity:
            case None:
                examples = n + (0 if sets.attack is None else len(sets.attack[1]))
                epochs = float(np.mean(finished)) if finished else min(own.training.epochs, _EPOCHS)
                epochs += own.training.extra_epochs
                cost = training_cost(own.architecture, (examples, *shape[1:]), own.training, own.seeds, round(epochs))
            case LogP(estimator=estimator):
                each = Cost(memory_needed(total, estimator), own.seeds * seconds_needed(total, estimator))
                cost = _with_kernel(own, total, shape[1:], each)
            case LogPosterior(particles=particles, replicates=replicates):
                estimator = SMC(particles=particles, replicates=replicates)
                each = Cost(memory_needed(total, estimator), own.seeds * seconds_needed(total, estimator))
                cost = _with_kernel(own, total, shape[1:], each)
            case measure:
                cost = measuring_cost(own.architecture, shape, measure, "float64")
        seconds, memory = seconds + cost.seconds, max(memory, cost.bytes)
    return Cost(workers * memory, seconds / workers) if tasks else None


def _with_kernel(own: Protocol, n: int, shape: tuple[int, ...], cost: Cost) -> Cost:
    if own.kernel is not None:
        return Cost(cost.bytes + 8 * n * n, (1 + BOOTSTRAPS) * cost.seconds)
    kernel = kernel_cost(own.architecture, n, shape)
    return Cost(cost.bytes + kernel.bytes, cost.seconds + kernel.seconds)


def _study(protocol: Protocol, settings: Sequence[Setting], store: Store) -> Study:
    """Collect the rows of a protocol from the store."""
    rows, problems = [], []
    expected: dict[str, int] = {}
    tasks = list(tasks_of(protocol, settings))
    trained = {task.setting.key: task for task in tasks if task.kind == "train"}
    measured: dict[str, list[Task]] = {}
    for task in tasks:
        if task.kind != "train":
            measured.setdefault(task.setting.key, []).append(task)
    for index, setting in enumerate(settings):
        for number in range(protocol.seeds):
            found = store.get(trained[setting.key].keys[number])
            if found is None:
                continue
            row = {"setting": index, "network": number, **setting.values}
            row |= {name: found[name] for name in _OF_TRAINING if found.get(name) is not None}
            problems += [f"{setting}, network {number}: {found['message']}"] if found["message"] else []
            for task in measured.get(setting.key, []):
                if number not in task.networks:
                    continue
                results = store.get(task.keys[task.networks.index(number)])
                if results is None:
                    continue
                if results["message"]:
                    problems.append(f"{setting}, network {number}: {results['message']}")
                for each in results["values"]:
                    name = each["name"] + _suffix(task.quantity, protocol)
                    expected[name] = 0 if name == _SIGNED else _expected(task.quantity)
                    row |= {name: each["value"], f"{name}.stderr": each["stderr"], f"{name}.status": each["status"]}
            rows.append(row)
    return Study(protocol, tuple(settings), store.folder, tuple(rows), expected, tuple(problems))


def _suffix(quantity: Quantity | None, protocol: Protocol) -> str:
    """Options of a measure that differ from those of another one of the same kind, to tell their quantities apart."""
    alike = [each for each in protocol.quantities if quantity is not None and each.kind == quantity.kind]
    if quantity is None or len(alike) == 1 or isinstance(quantity, LogP | LogPosterior):
        return ""
    own = quantity.as_json
    differing = [name for name in own if any(each.as_json.get(name) != own[name] for each in alike)]
    return f"({', '.join(f'{name}={own[name]}' for name in differing)})"


def _expected(quantity: Quantity | None) -> int:
    if isinstance(quantity, LogP | LogPosterior):
        return 1
    return 0 if isinstance(quantity, GradientStiffness | GradientDiversity | GradientNoiseScale) else -1
