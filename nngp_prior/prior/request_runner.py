"""Execution of requests: from specifications to rows of results, in process or in a service's worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nngp_prior.errors import InvalidInput, InvalidLabels
from nngp_prior.kernels import KernelCache
from nngp_prior.prior.learning_curve import learning_curve
from nngp_prior.prior.pac_bayes import clean_error_corrupted, pac_bayes_bounds
from nngp_prior.prior.posterior import result_row
from nngp_prior.prior.request_context import Blobs, Place, RequestContext, about, inputs_of
from nngp_prior.prior.sampling.request import require_samples, sample_row
from nngp_prior.prior.selection_request import candidate_rows, count_candidates, selection_facts
from nngp_prior.probability import compute_all
from nngp_prior.progress import ProgressCallback, ignore
from nngp_prior.schemas.requests import (
    BoundRequest,
    EstimateRequest,
    KernelRequest,
    PosteriorRequest,
    SampleRequest,
    SelectionRequest,
)
from nngp_prior.schemas.results.base import refused_row, row_of
from nngp_prior.schemas.results.bound import PacBayesBound, bound_row
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.specs.estimator import WITH_CLASSES, classes_of, more_than_two
from nngp_prior.schemas.specs.inequality import BoundName
from nngp_prior.settings import Settings
from nngp_prior.versions import versions

_SEARCHED = 10**7  # number of labels searched for one valid labelling

# Bound and posterior requests are subclasses of EstimateRequest.
ResultsRequest = EstimateRequest | SelectionRequest | SampleRequest


class RequestRunner(RequestContext):
    """Executes requests and keeps shared resources for the next ones.

    Args:
        kernels: kernel cache; default: the user's cache.
        blobs: function that returns an uploaded array by its hash; default: no uploaded arrays.
        unfinished: folder for interrupted samples, from which they resume; default: they are not kept.
        studies: folder of the results of studies; default: ``studies`` in ``NNGP_HOME``.
        planning: True if requests are only planned; shape and hash of large inputs then take no memory.

    Attributes:
        studies: folder of the results of studies.
    """

    def __init__(
        self,
        kernels: KernelCache | None = None,
        blobs: Blobs | None = None,
        unfinished: Path | None = None,
        *,
        studies: Path | None = None,
        planning: bool = False,
    ) -> None:
        super().__init__(kernels, blobs, planning=planning)
        self._unfinished, self.studies = unfinished, studies or Settings().home / "studies"

    def estimates(
        self, request: EstimateRequest, rows: Sequence[int] | None = None, progress: ProgressCallback = ignore
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the results of a request as they finish.

        Args:
            request: request to execute.
            rows: indices of labellings; default: all.
            progress: progress callback, called per tile and per labelling.

        Yields:
            index and result. An invalid labelling has the status ``invalid-labels``; the others are computed.
        """
        usable, refused = self._labelled(request, rows)
        yield from refused
        for row, _, estimate in self._estimated(request, usable, progress):
            yield row, row_of(row, estimate)

    def bounds(
        self, request: BoundRequest, rows: Sequence[int] | None = None, progress: ProgressCallback = ignore
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the results of :meth:`estimates`, with the bounds that follow.

        Args:
            request: request to execute; with ``sizes``, :func:`nngp_prior.learning_curve` of each labelling.
            rows: indices of labellings; default: all.
            progress: progress callback, called per tile and per labelling or size.

        Yields:
            index and result: the estimate of :meth:`estimates` and its bounds. With ``sizes`` those of the largest
            one, and ``points`` has one result for each.

        Raises:
            InvalidInput: if a size is larger than the number of inputs.
        """
        self._require_sizes(request)
        places = self.places(request.labellings)
        usable, refused = self._labelled(request, rows)
        yield from refused
        options = {"delta": request.delta, "gamma": request.gamma, "estimator_share": request.estimator_share}
        if request.sizes is None:
            for row, y, estimate in self._estimated(request, usable, progress):
                bounds = pac_bayes_bounds(estimate, **options)
                yield row, self._bound_row(request, places[row], row, y, estimate, bounds)
            return
        wanted = KernelRequest(architecture=request.architecture, dataset=request.dataset)
        estimator = request.estimator.model_dump(exclude={"kind"})
        for row, y in usable:
            curve = learning_curve(
                self.kernel(wanted, progress), y, request.sizes, method=request.estimator.kind, seed=request.seed,
                progress=progress, **options, **estimator,
            )  # fmt: skip
            points = [self._bound_row(request, places[row], row, y, *point[1:]) for point in curve]
            yield row, {**points[-1], "points": points}

    def posteriors(
        self, request: PosteriorRequest, rows: Sequence[int] | None = None, progress: ProgressCallback = ignore
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield posteriors given the leading labels of each labelling, at the other inputs.

        Args:
            request: request to execute.
            rows: indices of labellings; default: all.
            progress: progress callback, called per tile and per step.

        Yields:
            index and result. A labelling that is invalid, or whose training labels have probability 0, has the
            status ``invalid-labels``.
        """
        self._require_sizes(request)
        usable, refused = self._labelled(request, rows)
        yield from refused
        wanted = KernelRequest(architecture=request.architecture, dataset=request.dataset)
        for row, y in usable:
            K = self.kernel(wanted, progress)
            try:
                yield row, result_row(row, K, y, request.train, request.estimator, request.seed, progress)
            except InvalidLabels as error:
                yield row, refused_row(row, "invalid-labels", str(error))

    def samples(self, request: SampleRequest, progress: ProgressCallback = ignore) -> dict[str, Any]:
        """Count draws from the prior.

        Args:
            request: request to execute.
            progress: progress callback, called with the number of draws.

        Returns:
            the single result.
        """
        data = self.data(request.dataset)
        return sample_row(request, inputs_of(data, request.architecture), self._unfinished, progress)

    def results(
        self, request: ResultsRequest, rows: Sequence[int], progress: ProgressCallback = ignore
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the results of any request as they finish.

        Args:
            request: request to execute.
            rows: indices of results.
            progress: progress callback.

        Yields:
            index and result.
        """
        match request:
            case SampleRequest():
                yield from ((row, self.samples(request, progress)) for row in rows)
            case SelectionRequest():
                yield from candidate_rows(request, self, rows, progress)
            case PosteriorRequest():
                yield from self.posteriors(request, rows, progress)
            case BoundRequest():
                yield from self.bounds(request, rows, progress)
            case EstimateRequest():
                yield from self.estimates(request, rows, progress)

    def count(self, request: ResultsRequest) -> int:
        """Check that a request can be executed and count its results.

        Args:
            request: request to execute.

        Returns:
            number of results.

        Raises:
            InvalidInput: if it cannot be executed; :class:`InvalidLabels` if no labelling is valid.
        """
        if isinstance(request, SampleRequest):
            require_samples(request, len(self.data(request.dataset).X))
            return 1
        if isinstance(request, SelectionRequest):
            return count_candidates(request, self)
        self._require_sizes(request)
        places = self.places(request.labellings)
        self._require_labels(request, places)
        return len(places)

    def facts(self, request: ResultsRequest) -> dict[str, Any]:
        """Return the metadata common to all results of a request.

        Args:
            request: request to execute.

        Returns:
            the number of inputs, the data set, the versions that the numbers depend on, and the kernel's key if there
            is one.
        """
        if isinstance(request, SelectionRequest):
            return selection_facts(request, self)
        common = {**about(request.dataset), "versions": versions()}
        if isinstance(request, SampleRequest):
            return {"n": len(self.data(request.dataset).X), **common}
        wanted = KernelRequest(architecture=request.architecture, dataset=request.dataset)
        return {"n": len(self.kernel_job(wanted).X), "kernel": self.kernel_key(wanted), **common}

    def _require_sizes(self, request: EstimateRequest) -> None:
        if isinstance(request, PosteriorRequest):
            n = len(self.data(request.dataset).X)
            if request.train >= n:
                problem = f"got {request.train:,} where there are {n:,} inputs"
                raise InvalidInput("train", problem, "Leave some for the test, or add inputs.")
        if isinstance(request, BoundRequest) and request.sizes is not None:
            n, most = len(self.data(request.dataset).X), request.sizes[-1]
            if most > n:
                raise InvalidInput("sizes", f"got {most:,} where there are {n:,} inputs", "Use fewer.")

    def _require_labels(self, request: EstimateRequest, places: Sequence[Place]) -> None:
        """Refuse a request without valid labellings; the search ends at the first valid one or at its limit."""
        n = len(self.data(request.dataset).X)  # the limit bounds the time; workers refuse invalid rows one by one
        searched = range(min(len(places), max(_SEARCHED // n, 1)))
        first: tuple[Place, InvalidLabels] | None = None
        for row, found in self._checked(request, places, searched):
            if not isinstance(found, InvalidLabels):
                return
            first = first or (places[row], found)
        if first is None or len(searched) < len(places):
            return
        (labelling, row), error = first
        field = f"labellings.{request.labellings.index(labelling)}"
        where = "" if row is None else f"row {row}: "
        others = f"; none of the {len(places):,} labellings can be used" if len(places) > 1 else ""
        raise InvalidLabels(field, f"{where}{error.problem}{others}", error.remedy)

    def _labelled(
        self, request: EstimateRequest, rows: Sequence[int] | None
    ) -> tuple[list[tuple[int, np.ndarray]], list[tuple[int, dict[str, Any]]]]:
        """Return valid labels, and results of invalid ones, each with its index."""
        places = self.places(request.labellings)
        usable, refused = [], []
        for row, found in self._checked(request, places, range(len(places)) if rows is None else rows):
            if isinstance(found, InvalidLabels):
                refused.append((row, refused_row(row, "invalid-labels", str(found))))
            else:
                usable.append((row, found))
        return usable, refused

    def _checked(
        self, request: EstimateRequest, places: Sequence[Place], rows: Sequence[int]
    ) -> Iterator[tuple[int, np.ndarray | InvalidLabels]]:
        """Yield row indices, each with its labels or the error."""
        data, classes = self.data(request.dataset), classes_of(request.estimator)
        takes_classes = request.estimator.kind in WITH_CLASSES
        for row in rows:
            try:
                yield row, self.labels(places[row], data, classes, takes_classes=takes_classes)
            except InvalidLabels as error:
                yield row, error

    def _estimated(
        self, request: EstimateRequest, usable: list[tuple[int, np.ndarray]], progress: ProgressCallback
    ) -> Iterator[tuple[int, np.ndarray, Estimate]]:
        """Yield indices, labels and estimates as they finish."""
        if not usable:
            return
        prepared = self._prepared(request, progress)
        labels = [y for _, y in usable]
        for place, estimate in compute_all(prepared, labels, request.estimator, request.seed, progress):
            yield *usable[place], estimate

    def _bound_row(
        self,
        request: BoundRequest,
        place: Place,
        row: int,
        y: np.ndarray,
        estimate: Estimate,
        bounds: dict[BoundName, PacBayesBound],
    ) -> dict[str, Any]:
        corruption = place.labelling.corruption
        if corruption is None or more_than_two(request.estimator):
            return bound_row(row, estimate, bounds)
        labelling = place.labelling.model_copy(update={"corruption": None})
        data = self.data(request.dataset)
        clean = self.labels(place._replace(labelling=labelling), data, classes_of(request.estimator))
        m, value = estimate.n, bounds["realizable"].value
        return bound_row(row, estimate, bounds, clean_error_corrupted(value, corruption, y[:m], clean[:m]))
