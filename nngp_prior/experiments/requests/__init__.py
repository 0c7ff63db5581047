"""Runner of requests for studies, in process or in a service's workers; only results need JAX."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nngp_prior.errors import InvalidInput
from nngp_prior.experiments.requests.base import RequestedStudy
from nngp_prior.experiments.requests.functions import FunctionStudy
from nngp_prior.experiments.requests.networks import NetworkStudy
from nngp_prior.experiments.store import Store
from nngp_prior.extras import require_extra
from nngp_prior.progress import Progress, ProgressCallback, ignore, without_cost
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.frequencies import FrequencyProtocol
from nngp_prior.schemas.requests import ExperimentRequest
from nngp_prior.schemas.results.experiment import STUDY
from nngp_prior.versions import versions

_FILES = {"html": "report.html", "markdown": "report.md", "csv": "results.csv"}  # of a finished study
_MOST_SETTINGS = 10_000


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

    def plan(self, request: ExperimentRequest) -> RequestedStudy[Any, Any]:
        """Return the tasks of a request.

        Args:
            request: the request.

        Returns:
            its tasks.

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
        with _of_protocol():
            return FunctionStudy(protocol) if isinstance(protocol, FrequencyProtocol) else NetworkStudy(protocol)

    def count(self, request: ExperimentRequest) -> int:
        """Return the number of results, one for each task and the study's, after checking everything but labels."""
        return len(self.costs(request, self.plan(request)))

    def costs(self, request: ExperimentRequest, planned: RequestedStudy[Any, Any]) -> list[Cost]:
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
        with _of_protocol():
            return [*planned.costs(planned.tasks, Store(self.folder(request))), planned.cost_of_study()]

    def facts(self, request: ExperimentRequest, planned: RequestedStudy[Any, Any] | None = None) -> dict[str, Any]:
        """Return metadata shared by all results.

        Args:
            request: the request.
            planned: its tasks; default: planned again.

        Returns:
            numbers of networks and of inputs, and versions.
        """
        return {
            "units": "nats",
            "n": (planned or self.plan(request)).n,
            "networks": request.protocol.networks,
            "versions": versions(),
        }

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
        planned = self.plan(request)
        folder, last = self.folder(request), len(planned.tasks)
        (folder / "networks").mkdir(parents=True, exist_ok=True)
        store = Store(folder)
        left = [planned.tasks[row] for row in rows if row < last and not planned.is_done(planned.tasks[row], store)]
        progress(Progress("tasks", 0, len(rows), _in_turn(list(planned.costs(left, store)))))
        for row in rows:
            if row < last:
                yield row, {"place": row, **planned.row(planned.tasks[row], store, without_cost(progress))}
            else:
                whole = planned.study(Store(folder))  # with the results of other processes
                shutil.rmtree(folder / "kernels", ignore_errors=True)  # no longer needed
                yield row, {"place": row, "task": STUDY, **whole}

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


@contextmanager
def _of_protocol() -> Iterator[None]:
    """Name fields of the protocol as fields of the request."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(f"protocol.{error.field}", error.problem, error.remedy) from None


def _in_turn(costs: Sequence[Cost]) -> Cost | None:
    """Cost of tasks carried out one after another; None if there are none."""
    return Cost(max(each.bytes for each in costs), sum(each.seconds for each in costs)) if costs else None
