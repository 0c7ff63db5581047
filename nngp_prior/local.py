"""The client's calls without a service: computed here, by this process, when results are asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from nngp_prior.client.bars import bar
from nngp_prior.client.jobs import Status
from nngp_prior.client.kinds import kind_of
from nngp_prior.client.requests import (
    Npy,
    bound_request,
    estimate_request,
    posterior_request,
    sample_request,
    sharpness_request,
)
from nngp_prior.errors import InvalidInput, NngpPriorError, NotFinished
from nngp_prior.kernels import KernelCache
from nngp_prior.prior.workbench import ResultsRequest, Workbench
from nngp_prior.progress import Progress, ProgressCallback, ignore
from nngp_prior.schemas.architecture import Architecture
from nngp_prior.schemas.bound_result import BoundResults
from nngp_prior.schemas.posterior_result import PosteriorResults
from nngp_prior.schemas.request import SharpnessRequest
from nngp_prior.schemas.result import Results
from nngp_prior.schemas.sample_result import Samples
from nngp_prior.schemas.sharpness import DEFAULT
from nngp_prior.schemas.sharpness_result import SharpnessResults
from nngp_prior.sharpness.workbench import SharpnessBench

R = TypeVar("R")
_Bench = Any  # a Workbench or a SharpnessBench, each for requests of its own


class LocalClient:
    """Estimates, bounds, posteriors, samples, sharpness by this process, with the calls of :class:`nngp_prior.Client`.

    Arrays and results are kept as long as the client is.

    Args:
        kernels: where kernels are kept; the user's cache when absent.
    """

    def __init__(self, kernels: KernelCache | None = None) -> None:
        self._arrays: dict[str, np.ndarray] = {}
        self._bench = Workbench(kernels, self._array)
        self._jobs: dict[str, LocalJob] = {}

    def estimate(
        self, architecture: Architecture, X: Any, Y: Any, *, method: str = "smc", seed: int = 0, **options: Any
    ) -> LocalJob[Results]:
        """As :meth:`nngp_prior.Client.estimate`; computed when results are asked for.

        Args:
            architecture: the specification of the network.
            X: an array of inputs, or a data set.
            Y: an array of labels, or labellings.
            method: as for :func:`nngp_prior.log_probability`.
            seed: of all random numbers.
            **options: as there.

        Returns:
            the job.
        """
        return self.submit(estimate_request(architecture, X, Y, method, seed, options, self.upload))

    def bound(
        self,
        architecture: Architecture,
        X: Any,
        Y: Any,
        *,
        delta: float = 0.05,
        gamma: float = 0.05,
        estimator_share: float = 0.1,
        sizes: Sequence[int] | None = None,
        method: str = "smc",
        seed: int = 0,
        **options: Any,
    ) -> LocalJob[BoundResults]:
        """As :meth:`nngp_prior.Client.bound`; computed when results are asked for.

        Args:
            architecture: the specification of the network.
            X: an array of inputs, or a data set.
            Y: an array of labels, or labellings.
            delta: as for :func:`nngp_prior.pac_bayes_bounds`.
            gamma: as there.
            estimator_share: as there.
            sizes: numbers of examples; all when absent.
            method: as for :func:`nngp_prior.log_probability`.
            seed: of all random numbers.
            **options: as there.

        Returns:
            the job.
        """
        bounds = {"delta": delta, "gamma": gamma, "estimator_share": estimator_share, "sizes": sizes}
        return self.submit(bound_request(architecture, X, Y, method, seed, options, self.upload, bounds))

    def posterior(
        self, architecture: Architecture, X: Any, Y: Any, *, train: int, seed: int = 0, **options: Any
    ) -> LocalJob[PosteriorResults]:
        """As :meth:`nngp_prior.Client.posterior`; computed when results are asked for.

        Args:
            architecture: the specification of the network.
            X: an array of inputs, or a data set.
            Y: an array of labels, or labellings.
            train: how many are training inputs.
            seed: of all random numbers.
            **options: as there.

        Returns:
            the job.
        """
        return self.submit(posterior_request(architecture, X, Y, train, seed, options, self.upload))

    def sample(
        self,
        architecture: Architecture,
        X: Any,
        networks: int,
        *,
        seed: int = 0,
        source: str = "networks",
        top: int = 10,
        complexities: Sequence[str] = (),
    ) -> LocalJob[Samples]:
        """As :meth:`nngp_prior.Client.sample`; computed when results are asked for.

        Args:
            architecture: the specification of the network.
            X: an array of inputs, or a data set.
            networks: how many draws.
            seed: of all draws.
            source: ``networks`` or ``gp``.
            top: how many functions to list.
            complexities: measures of them.

        Returns:
            the job.
        """
        return self.submit(sample_request(architecture, X, networks, seed, source, top, complexities, self.upload))

    def sharpness(
        self,
        architecture: Architecture,
        parameters: Any,
        X: Any,
        y: Any,
        measures: Sequence[Any] = DEFAULT,
        *,
        loss: str = "cross-entropy",
        dtype: str = "float64",
        seed: int = 0,
    ) -> LocalJob[SharpnessResults]:
        """As :meth:`nngp_prior.Client.sharpness`; computed when results are asked for.

        Args:
            architecture: the specification of the network.
            parameters: as its ``init`` gives them.
            X: an array of inputs, or a data set.
            y: an array of labels, or one labelling.
            measures: names, or specifications with options.
            loss: ``cross-entropy`` or ``mse``.
            dtype: ``float64`` or ``float32``.
            seed: of random vectors.

        Returns:
            the job.
        """
        options = {"loss": loss, "dtype": dtype, "seed": seed}
        return self.submit(sharpness_request(architecture, parameters, X, y, measures, options, self.upload))

    def submit(self, request: ResultsRequest | SharpnessRequest) -> LocalJob[Any]:
        """Take a request, after checking all of it but its labels.

        Args:
            request: of estimates, bounds, posteriors, samples or sharpness.

        Returns:
            the job; that of the same request, if there is one.
        """
        id = request.content_hash
        if id not in self._jobs:
            self._jobs[id] = LocalJob(self._bench_of(request), request)
        self._jobs[id].accept()
        return self._jobs[id]

    def upload(self, array: ArrayLike) -> str:
        """Keep a copy of an array.

        Args:
            array: of real numbers.

        Returns:
            its hash, for ``BlobData``, ``BlobLabellings`` and weights.
        """
        file = Npy(np.array(array))
        self._arrays.setdefault(file.sha256, file.array)
        return file.sha256

    def job(self, id: str) -> LocalJob[Any]:
        """A job that was submitted before.

        Args:
            id: of it.

        Returns:
            the job.

        Raises:
            InvalidInput: there is none.
        """
        if id not in self._jobs:
            raise InvalidInput("id", f"there is no job {id!r} in this process", "Submit it.")
        return self._jobs[id]

    def jobs(self, state: str | None = None) -> Iterator[LocalJob[Any]]:
        """All jobs, the newest first.

        Args:
            state: of those that are asked for; all when absent.

        Yields:
            jobs.
        """
        for job in reversed(list(self._jobs.values())):
            if state in (None, job.status().state):
                yield job

    def close(self) -> None:
        """There is nothing to let go of."""

    def __enter__(self) -> LocalClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _bench_of(self, request: ResultsRequest | SharpnessRequest) -> _Bench:
        return SharpnessBench(self._bench) if isinstance(request, SharpnessRequest) else self._bench

    def _array(self, sha256: str) -> np.ndarray:
        if sha256 not in self._arrays:
            raise InvalidInput("sha256", f"there is no array {sha256}", "Upload it first.")
        return self._arrays[sha256]


class LocalJob(Generic[R]):
    """A request and the rows of it that were computed; the methods of :class:`LocalClient` make them.

    Args:
        bench: what computes.
        request: of estimates, bounds, posteriors, samples or sharpness.

    Attributes:
        id: of the job; the same for the same request.
    """

    def __init__(self, bench: _Bench, request: ResultsRequest | SharpnessRequest) -> None:
        self._bench, self._request = bench, request
        self.id = request.content_hash
        self._kind, self._target, self._facts = kind_of(request.work), bench.count(request), bench.facts(request)
        self._rows: dict[int, dict[str, Any]] = {}
        self._state = "accepted"

    def accept(self) -> None:
        """Take it on again if it was dismissed; rows that have results are kept."""
        if self._state == "dismissed":
            self._state = "accepted"

    def status(self) -> Status:
        """Where the job stands.

        Returns:
            as of a service's job.
        """
        progress = {"current": len(self._rows), "target": self._target, "unit": self._kind.unit, "stage": None}
        document = {
            "id": self.id,
            "kind": self._request.work,
            "state": self._state,
            "progress": progress,
            "error": None,
        }
        return Status(document)

    def wait(self, timeout: float | None = None, progress: ProgressCallback = ignore) -> bool:
        """Compute what is left.

        Args:
            timeout: seconds after which no other row is begun; ``0`` computes nothing.
            progress: told of rows, and of stages.

        Returns:
            False where some are left.
        """
        until = float("inf") if timeout is None else time.monotonic() + timeout
        if timeout != 0:
            for _ in self._compute(progress):
                if time.monotonic() >= until:
                    break
        return self.status().ended

    def result(self, progress: bool | ProgressCallback = False, timeout: float | None = None) -> R:
        """Compute what is left, and get all results.

        Args:
            progress: draw a bar, or a callback.
            timeout: seconds after which no other row is begun.

        Returns:
            ``Results``, or ``BoundResults``: one for each labelling, in their order; ``Samples`` of draws;
            ``SharpnessResults``: one for each measure.

        Raises:
            NotFinished: some are left; those that were computed are kept.
            NngpPriorError: the job was dismissed, or cannot be carried out.
        """
        with bar(progress, f"job {self.id[:12]}") as tell:
            ended = self.wait(timeout, tell)
        if not ended:
            done = f"{len(self._rows)} of {self._target} {self._kind.unit}"
            raise NotFinished(f"timeout: job {self.id} has not ended after {timeout:g} s ({done}). Ask again.")
        if self._state == "dismissed":
            raise NngpPriorError(f"job {self.id} was dismissed. Submit it again.")
        asked = self._request.model_dump(mode="json", exclude={"dataset", "labellings", "labelling", "weights"})
        return self._kind.all(
            [self._rows[row] for row in sorted(self._rows)], {"units": "nats", **self._facts, **asked}
        )

    def results(self) -> Iterator[Any]:
        """Results, each as soon as it is computed.

        Yields:
            each labelling's once; ``Samples`` of draws.
        """
        yield from [self._kind.one(row) for row in self._rows.values()]
        for row in self._compute(ignore):
            yield self._kind.one(row)

    def dismiss(self) -> Status:
        """Compute no more.

        Returns:
            where it stands now.
        """
        if self._state != "successful":
            self._state = "dismissed"
        return self.status()

    def __repr__(self) -> str:
        return f"<LocalJob {self.id[:12]} {self._state}, {len(self._rows)} of {self._target} {self._kind.unit}>"

    def _compute(self, progress: ProgressCallback) -> Iterator[dict[str, Any]]:
        left = [row for row in range(self._target) if row not in self._rows]
        if left and self._state == "dismissed":
            return
        progress(Progress(self._kind.unit, len(self._rows), self._target))

        def stages(event: Progress) -> None:
            if event.stage != self._kind.unit:  # of those that were left, not of all
                progress(event)

        for row, document in self._bench.results(self._request, left, stages):
            self._rows[row] = document
            progress(Progress(self._kind.unit, len(self._rows), self._target))
            if len(self._rows) == self._target:
                self._state = "successful"
            yield document
