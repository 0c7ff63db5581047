"""The client's calls without a service: computed by this process when results are requested."""

from __future__ import annotations

import shutil
import tempfile
import time
import uuid
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from typing_extensions import override

from nngp_prior.client.base import BaseClient, Request
from nngp_prior.client.base_job import BaseJob, one_of
from nngp_prior.client.requests import Npy
from nngp_prior.client.status import Status
from nngp_prior.errors import InvalidInput, NngpPriorError
from nngp_prior.experiments.requests import ExperimentRunner
from nngp_prior.kernels import KernelCache
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.progress import Progress, ProgressCallback, ignore
from nngp_prior.schemas.job_names import JobEdit, JobNames
from nngp_prior.schemas.requests import ExperimentRequest, SharpnessRequest
from nngp_prior.schemas.results.base import Results
from nngp_prior.schemas.results.bound import BoundResults
from nngp_prior.schemas.results.experiment import ExperimentResults, report_type
from nngp_prior.schemas.results.posterior import PosteriorResults
from nngp_prior.schemas.results.sample import Samples
from nngp_prior.schemas.results.selection import Selection
from nngp_prior.schemas.results.sharpness import SharpnessResults
from nngp_prior.sharpness.requests import SharpnessRunner

R = TypeVar("R")
_Runner = Any  # RequestRunner, SharpnessRunner or ExperimentRunner, depending on the request


class LocalJob(BaseJob[R]):
    """A request and its computed rows; created by the methods of :class:`LocalClient`.

    Args:
        runner: object that executes the request.
        request: request for estimates, bounds, posteriors, a selection, samples, sharpness or a study.
    """

    _after_timeout = "Call again to continue."

    def __init__(self, runner: _Runner, request: Request) -> None:
        super().__init__(request.content_hash, request.work)
        self._runner, self._request = runner, request
        self._target, self._facts = runner.count(request), runner.facts(request)
        self._rows: dict[int, dict[str, Any]] = {}
        self._state, self._names = "accepted", JobNames()

    def accept(self, names: JobNames) -> None:
        """Accept the job again if it was dismissed; rows that have results are kept.

        Args:
            names: new name if there is one, and more tags.
        """
        self._edit(names.as_edit)
        if self._state == "dismissed":
            self._state = "accepted"

    @override
    def status(self) -> Status:
        progress = {"current": len(self._rows), "target": self._target, "unit": self._reader.unit, "stage": None}
        document = {
            "id": self.id,
            "name": self._names.name,
            "tags": list(self._names.tags),
            "kind": self._request.work,
            "data": self._request.dataset.kind,
            "n": self._facts["n"],
            "state": self._state,
            "progress": progress,
            "error": None,
        }
        return Status(document)

    @override
    def _wait(self, timeout: float | None, progress: ProgressCallback) -> bool:
        until = float("inf") if timeout is None else time.monotonic() + timeout
        if timeout != 0:
            for _ in self._compute(progress):
                if time.monotonic() >= until:
                    break
        return self.status().ended

    @override
    def results(self) -> Iterator[Any]:
        yield from [self._reader.one(row) for row in self._rows.values()]
        for row in self._compute(ignore):
            yield self._reader.one(row)

    @override
    def report(self, kind: str = "html") -> str:
        report_type(kind)
        if not isinstance(self._request, ExperimentRequest):
            raise NngpPriorError(f"job {self.id} is of {self._request.work}, which have no report.")
        path = self._runner.report(self._request, kind)
        if path is None:
            raise NngpPriorError(f"job {self.id} is not finished ({self.status().done}). Ask for its result first.")
        return path.read_text(encoding="utf-8")

    @override
    def dismiss(self) -> Status:
        if self._state != "successful":
            self._state = "dismissed"
        return self.status()

    @override
    def _edit(self, edit: JobEdit) -> Status:
        self._names = self._names.after(edit)
        return self.status()

    @override
    def _last_status(self) -> Status:
        return self.status()

    @override
    def _all_results(self) -> R:
        if self._state == "dismissed":
            raise NngpPriorError(f"job {self.id} was dismissed. Submit it again.")
        asked = self._request.model_dump(mode="json", exclude={"dataset", "labellings", "labelling", "weights"})
        return self._reader.all(
            [self._rows[row] for row in sorted(self._rows)], {"units": "nats", **self._facts, **asked}
        )

    def _compute(self, progress: ProgressCallback) -> Iterator[dict[str, Any]]:
        left = [row for row in range(self._target) if row not in self._rows]
        if left and self._state == "dismissed":
            return
        progress(Progress(self._reader.unit, len(self._rows), self._target))

        def stages(event: Progress) -> None:
            if event.stage != self._reader.unit:
                progress(event)
            elif event.cost is not None:  # cost of the remaining rows; progress counts rows
                progress(replace(event, done=len(self._rows), total=self._target))

        for row, document in self._runner.results(self._request, left, stages):
            self._rows[row] = document
            progress(Progress(self._reader.unit, len(self._rows), self._target))
            if len(self._rows) == self._target:
                self._state = "successful"
            yield document


class LocalClient(
    BaseClient[
        LocalJob[Results],
        LocalJob[BoundResults],
        LocalJob[PosteriorResults],
        LocalJob[Selection],
        LocalJob[Samples],
        LocalJob[SharpnessResults],
        LocalJob[ExperimentResults],
    ]
):
    """Client that computes in this process, with the calls of :class:`nngp_prior.Client`.

    A job is computed when its results are requested. Arrays (copies of those that are "uploaded") and results, also
    those of unfinished studies, are kept for the lifetime of the client.

    Args:
        kernels: kernel cache; default: the user's cache.
    """

    def __init__(self, kernels: KernelCache | None = None) -> None:
        self._arrays: dict[str, np.ndarray] = {}
        studies = Path(tempfile.gettempdir()) / f"nngp-prior-{uuid.uuid4().hex}"  # created by the first study
        weakref.finalize(self, shutil.rmtree, studies, ignore_errors=True)
        self._runner = RequestRunner(kernels, self._array, studies=studies)
        self._jobs: dict[str, LocalJob] = {}

    @override
    def submit(self, request: Request, *, name: str | None = None, tags: Iterable[str] = ()) -> LocalJob[Any]:
        names = JobNames.of(name, tags)
        id = request.content_hash
        if id not in self._jobs:
            self._jobs[id] = LocalJob(self._runner_of(request), request)
        self._jobs[id].accept(names)
        return self._jobs[id]

    @override
    def upload(self, array: ArrayLike) -> str:
        file = Npy(np.array(array))
        self._arrays.setdefault(file.sha256, file.array)
        return file.sha256

    @override
    def job(self, id: str) -> LocalJob[Any]:
        return self._jobs[id] if id in self._jobs else one_of(self._jobs.values(), id)

    @override
    def jobs(
        self, state: str | None = None, *, name: str | None = None, tags: Iterable[str] = ()
    ) -> Iterator[LocalJob[Any]]:
        wanted = set(JobNames.of(tags=tags).tags)
        for job in reversed(list(self._jobs.values())):
            named = not name or name.casefold() in (job.name or "").casefold()
            if named and wanted <= set(job.tags) and state in (None, job.status().state):
                yield job

    @override
    def close(self) -> None:
        """No-op, for interface parity with :class:`nngp_prior.Client`."""

    def _runner_of(self, request: Request) -> _Runner:
        match request:
            case SharpnessRequest():
                return SharpnessRunner(self._runner)
            case ExperimentRequest():
                return ExperimentRunner(self._runner.studies)
            case _:
                return self._runner

    def _array(self, sha256: str) -> np.ndarray:
        if sha256 not in self._arrays:
            raise InvalidInput("sha256", f"there is no array {sha256}", "Upload it first.")
        return self._arrays[sha256]
