"""Runner of requests for studies, in process or in a service's workers; only results need JAX."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from nngp_prior.errors import InvalidInput
from nngp_prior.experiments.cost import cost_of, costs_of
from nngp_prior.experiments.grid import Setting, settings_of
from nngp_prior.experiments.store import Store
from nngp_prior.experiments.study import is_done, study_of, tasks_of
from nngp_prior.experiments.tasks import Task, is_trained
from nngp_prior.extras import require_extra
from nngp_prior.progress import Progress, ProgressCallback, ignore, without_cost
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.requests import ExperimentRequest
from nngp_prior.schemas.results.base import finite
from nngp_prior.schemas.results.experiment import STUDY
from nngp_prior.versions import versions

_FILES = {"html": "report.html", "markdown": "report.md", "csv": "results.csv"}  # of a finished study
_MOST_SETTINGS, _MOST_MOMENTS, _MOST_TASKS = 10_000, 10_000, 100_000
_REPORT, _PAIR_BYTES = 2**28, 150  # bytes: matplotlib; and per pair of networks
_FIGURE, _RESAMPLE, _PAIR, _INFORMATION = 0.5, 5e-4, 5e-8, 3e-6  # seconds: per quantity, resample, pair of networks


class Planned(NamedTuple):
    """Tasks of a request.

    Attributes:
        settings: all settings.
        tasks: tasks, those of a setting together; after them follows the row of the study.
    """

    settings: list[Setting]
    tasks: list[Task]


class ExperimentRunner:
    """Checks requests and carries out their tasks. Results are kept in a folder per request and versions.

    Several processes may carry out tasks of one request at the same time, if no quantity is computed before its
    networks are trained, and the row of the study after all others.

    Args:
        home: folder of all studies.
    """

    def __init__(self, home: Path) -> None:
        self._home = home

    def folder(self, request: ExperimentRequest, by: Mapping[str, str] | None = None) -> Path:
        """Return the folder of a request, which need not exist.

        Args:
            request: the request.
            by: versions that compute the results; default: the current ones.

        Returns:
            its path.
        """
        content = json.dumps([request.content_hash, dict(by or versions())], sort_keys=True)
        return self._home / hashlib.sha256(content.encode()).hexdigest()[:32]

    def plan(self, request: ExperimentRequest) -> Planned:
        """Return the settings and tasks of a request.

        Args:
            request: the request.

        Returns:
            settings and tasks.

        Raises:
            InvalidInput: if an axis or a value is invalid, or there are too many settings or tasks.
            MissingExtra: if matplotlib is not installed.
        """
        require_extra("plots")
        protocol = request.protocol
        settings = math.prod(map(len, protocol.axes.values()))
        if settings > _MOST_SETTINGS:
            problem = f"have {settings:,} combinations, and {_MOST_SETTINGS:,} are allowed"
            raise InvalidInput("protocol.axes", problem, "Use fewer values, or several studies.")
        course = protocol.course
        if course is not None and course.epochs // course.every > _MOST_MOMENTS:
            problem = f"got {course.every} of {course.epochs:,} epochs, more than {_MOST_MOMENTS:,} measurements"
            raise InvalidInput("protocol.course.every", problem, "Measure less often.")
        with _of_protocol():
            found = settings_of(protocol)
        tasks = list(islice(tasks_of(protocol, found), _MOST_TASKS + 1))
        if len(tasks) > _MOST_TASKS:
            problem = f"{protocol.networks:,} networks and {len(protocol.quantities)} quantities are more than "
            raise InvalidInput("protocol", f"{problem}{_MOST_TASKS:,} tasks", "Use fewer seeds, values or quantities.")
        return Planned(found, tasks)

    def count(self, request: ExperimentRequest) -> int:
        """Return the number of results, one for each task and the study's, after checking everything but labels."""
        return len(self.costs(request, self.plan(request)))

    def costs(self, request: ExperimentRequest, planned: Planned) -> list[Cost]:
        """Return the expected cost of each task, and of the row of the study.

        Args:
            request: the request.
            planned: its tasks.

        Returns:
            peak memory and time of each.

        Raises:
            InvalidInput: if more inputs are requested than exist.
            DataUnavailable: if data are missing.
        """
        protocol = request.protocol
        pairs, quantities = protocol.networks**2, len(protocol.quantities)
        resampling = protocol.statistics.resamples * (_RESAMPLE + pairs * _PAIR)
        study = Cost(_REPORT + pairs * _PAIR_BYTES, quantities * (_FIGURE + resampling + pairs * _INFORMATION))
        with _of_protocol():
            return [*costs_of(planned.tasks, Store(self.folder(request))), study]

    def facts(self, request: ExperimentRequest) -> dict[str, Any]:
        """Return metadata shared by all results.

        Args:
            request: the request.

        Returns:
            numbers of networks and of training inputs, and versions.
        """
        n = request.dataset.n
        return {"units": "nats", "n": n, "networks": request.protocol.networks, "versions": versions()}

    def results(
        self, request: ExperimentRequest, rows: Sequence[int], progress: ProgressCallback = ignore
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield results as they finish. What is in the folder of the request is not computed again.

        Args:
            request: the request.
            rows: indices of tasks; the number of tasks for the row of the study.
            progress: called with the expected cost, and within tasks.

        Yields:
            index and result. The row of the study has the status ``incomplete`` if results of tasks are missing.
        """
        settings, tasks = self.plan(request)
        folder = self.folder(request)
        (folder / "networks").mkdir(parents=True, exist_ok=True)
        store = Store(folder)
        left = [tasks[row] for row in rows if row < len(tasks) and not is_done(tasks[row], store)]
        progress(Progress("tasks", 0, len(rows), cost_of(left, store)))
        for row in rows:
            if row == len(tasks):
                yield row, self._study(request, settings, tasks)
            else:
                yield row, _row(row, tasks[row], settings, store, progress)

    def keep_only(self, requests: Iterable[tuple[ExperimentRequest, Mapping[str, str]]]) -> None:
        """Delete the folders of all other requests.

        Args:
            requests: requests, each with the versions that compute its results; read after the folders are listed, so
                that one whose folder is created meanwhile is kept.
        """
        there = list(self._home.iterdir()) if self._home.is_dir() else []
        kept = {self.folder(request, by) for request, by in requests}
        for folder in set(there) - kept:
            shutil.rmtree(folder, ignore_errors=True)

    def report(self, request: ExperimentRequest, kind: str, by: Mapping[str, str] | None = None) -> Path | None:
        """Return a file of a finished study.

        Args:
            request: the request.
            kind: name of a report.
            by: versions that computed the results; default: the current ones.

        Returns:
            its path; None if the study is not finished, or its folder has been deleted.
        """
        path = self.folder(request, by) / _FILES[kind]
        return path if path.is_file() else None

    def _study(self, request: ExperimentRequest, settings: list[Setting], tasks: list[Task]) -> dict[str, Any]:
        """Write the report, and return the row of the study."""
        from nngp_prior.experiments.analysis import summary
        from nngp_prior.experiments.changes import changes, summary_of_course
        from nngp_prior.experiments.report import write_report

        store = Store(self.folder(request))  # with the results of other processes
        missing = [f"{_title(task)}: has no result" for task in tasks if not all(key in store for key in task.keys)]
        study = study_of(request.protocol, settings, store)
        store.write("results.csv", study.to_csv())
        verdicts, changed = write_report(study), changes(study)
        shutil.rmtree(store.folder / "kernels", ignore_errors=True)  # no longer needed
        return {
            "place": len(tasks),
            "task": STUDY,
            "status": "incomplete" if missing else "ok",
            "message": f"{len(missing):,} tasks have no result. Post the request again for these." if missing else "",
            "rows": finite(list(study.rows)),
            "verdicts": [verdict.as_json() for verdict in verdicts],
            "changes": finite([each._asdict() for each in changed]),
            "problems": [*study.problems, *missing],
            "summary": summary(verdicts) if verdicts else summary_of_course(changed),
        }


@contextmanager
def _of_protocol() -> Iterator[None]:
    """Name fields of the protocol as fields of the request."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(f"protocol.{error.field}", error.problem, error.remedy) from None


def _title(task: Task) -> str:
    return f"{task.setting}, network {', '.join(map(str, task.networks))}: {_quantity(task) or 'training'}"


def _quantity(task: Task) -> str | None:
    return None if task.quantity is None else getattr(task.quantity, "name", task.quantity.kind)


def _row(row: int, task: Task, settings: list[Setting], store: Store, progress: ProgressCallback) -> dict[str, Any]:
    """Carry out a task unless it is done, and return its row."""
    from nngp_prior.experiments.work import carry_out

    status, message = "ok", ""
    if not is_done(task, store):
        if task.kind != "train" and not is_trained(task.setting, store.folder):
            status, message = "incomplete", "Its networks are not trained. Post the request again."
        else:
            for key, result in carry_out(task, store.folder, without_cost(progress)):
                if key not in store:  # a task that was killed while its rows were stored is carried out again
                    store.add(key, result)
    results = [{"network": i, **(store.get(key) or {})} for i, key in zip(task.networks, task.keys, strict=True)]
    return {
        "place": row,
        "task": task.kind,
        "setting": dict(task.setting.values),
        "quantity": _quantity(task),
        "status": status,
        "message": message,
        "results": [] if status == "incomplete" else finite(results),
    }
