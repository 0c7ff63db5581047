"""Execution of tasks: one after another, in processes, or by an executor. Their rows are stored as they arrive."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from nngp_prior.errors import ResourceLimit
from nngp_prior.executors import result_of, stop
from nngp_prior.experiments.store import Store
from nngp_prior.experiments.workers import Rows, Workers
from nngp_prior.progress import Progress, ProgressCallback, without_cost
from nngp_prior.versions import PACKAGE, versions

_LOOK = 0.5  # seconds between two looks for progress within tasks

Task = TypeVar("Task")
_CarryOut = Callable[..., Rows]
_Submit = Callable[[Any, Path], Future[Rows]]
_Events = Callable[[], list[Progress]]


def execute(
    tasks: Iterable[Task],
    carry_out: _CarryOut,
    store: Store,
    workers: int | None,
    executor: Executor | None,
    tell: ProgressCallback,
    before: Progress,
    follow: Callable[[Task], Sequence[Task]] = lambda _: (),
) -> None:
    """Carry out tasks, and further tasks that depend on them.

    Args:
        tasks: tasks that can be carried out at once.
        carry_out: function of a task, the folder and, unless an executor calls it, a progress callback.
        store: store of the rows.
        workers: number of processes; None to carry out the tasks one after another.
        executor: executor of the tasks, in place of processes.
        tell: progress callback, called after each task.
        before: stage, number of tasks done before and in all.
        follow: returns the tasks that can be carried out once a task is finished; they are the next ones.

    Raises:
        ResourceLimit: if a worker died.
    """
    ready, done = list(tasks), before.done
    running: dict[Future[Rows], Task] = {}
    with ExitStack() as stack:
        submit, events, serial = _how(carry_out, workers, executor, tell, stack)
        try:
            while ready or running:
                room = 1 if serial else len(ready)
                for task in ready[:room]:
                    running[submit(task, store.folder)] = task
                del ready[:room]
                finished = wait(running, None if events is None else _LOOK, FIRST_COMPLETED).done
                for event in () if events is None else events():
                    tell(event)
                for future in finished:
                    task = running.pop(future)
                    store.add_missing(_result(future))
                    ready[:0] = follow(task)
                    done += 1
                    tell(Progress(before.stage, done, before.total))
        finally:
            stop(running)


def with_versions(rows: Rows) -> Rows:
    """Return rows with the versions that computed them."""
    by = {name: versions()[name] for name in (PACKAGE, "jax")}
    return [(key, {**row, "versions": by}) for key, row in rows]


def mixed_versions(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a warning if rows were computed by different versions, else nothing."""
    by = Counter(map(_versions_of, rows))
    if len(by) < 2:
        return []
    parts = "; ".join(f"{count:,} by {versions}" for versions, count in sorted(by.items()))
    return [f"Results were computed by different versions: {parts}. For those of one version, use an empty folder."]


def _versions_of(row: Mapping[str, Any]) -> str:
    found = row.get("versions")
    return ", ".join(f"{name} {version}" for name, version in found.items()) if found else "an unknown version"


def _how(
    carry_out: _CarryOut, workers: int | None, executor: Executor | None, tell: ProgressCallback, stack: ExitStack
) -> tuple[_Submit, _Events | None, bool]:
    """Return a function that submits a task, one that returns events within tasks, and True if tasks run in turn."""
    if executor is not None:
        return functools.partial(executor.submit, carry_out), None, False
    if workers is not None:
        processes = stack.enter_context(Workers(workers))
        return functools.partial(processes.submit, carry_out), processes.events, False

    def carry_out_now(task: Any, folder: Path) -> Future[Rows]:
        future: Future[Rows] = Future()
        try:
            future.set_result(carry_out(task, folder, without_cost(tell)))
        except Exception as error:
            future.set_exception(error)
        return future

    return carry_out_now, None, True


def _result(future: Future[Rows]) -> Rows:
    try:
        return result_of(future)
    except ResourceLimit as error:
        raise ResourceLimit(f"{error} What is finished is kept.") from error
