"""Requests carried out: from specifications to rows of results, in process or in a service's worker."""

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
from nngp_prior.probability import compute_all
from nngp_prior.progress import ProgressCallback, ignore
from nngp_prior.schemas.requests import BoundRequest, EstimateRequest, KernelRequest, PosteriorRequest, SampleRequest
from nngp_prior.schemas.results.base import refused_row, row_of
from nngp_prior.schemas.results.bound import BoundName, PacBayesBound, bound_row
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.specs.estimator import WITH_CLASSES, classes_of, more_than_two
from nngp_prior.versions import versions

_SEARCHED = 10**7  # labels, for one labelling that can be used

ResultsRequest = EstimateRequest | SampleRequest  # bounds and posteriors are estimates with more to them


class RequestRunner(RequestContext):
    """Carries out requests; what they share is kept for the next ones.

    Args:
        kernels: where kernels are kept; the user's cache when absent.
        blobs: gives an uploaded array by its hash, where there are any.
        unfinished: a folder in which samples that are cut off are kept, to go on from; they are not when absent.
        planning: whether requests are only planned: of large inputs, their shape and hash take no memory.
    """

    def __init__(
        self,
        kernels: KernelCache | None = None,
        blobs: Blobs | None = None,
        unfinished: Path | None = None,
        *,
        planning: bool = False,
    ) -> None:
        super().__init__(kernels, blobs, planning=planning)
        self._unfinished = unfinished

    def estimates(
        self, request: EstimateRequest, rows: Sequence[int] | None = None, progress: ProgressCallback = ignore
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Results of a request as they finish.

        Args:
            request: what is asked for.
            rows: which labellings, by their places; all when absent.
            progress: told of tiles, and of labellings.

        Yields:
            place and result. A labelling that cannot be used has the status ``invalid-labels``; the others are
            computed.
        """
        usable, refused = self._labelled(request, rows)
        yield from refused
        for row, _, estimate in self._estimated(request, usable, progress):
            yield row, row_of(row, estimate)

    def bounds(
        self, request: BoundRequest, rows: Sequence[int] | None = None, progress: ProgressCallback = ignore
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """As :meth:`estimates`, with the bounds that follow.

        Args:
            request: what is asked for; with ``sizes`` it is :func:`nngp_prior.learning_curve` of each labelling.
            rows: which labellings, by their places; all when absent.
            progress: told of tiles, and of labellings or sizes.

        Yields:
            place and result: the estimate of :meth:`estimates` and its bounds. With ``sizes`` those of the largest
            one, and ``points`` has one result for each.

        Raises:
            InvalidInput: a size is larger than the number of inputs.
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
        """Posteriors given the first labels of each labelling, at the other inputs.

        Args:
            request: what is asked for.
            rows: which labellings, by their places; all when absent.
            progress: told of tiles, and of steps.

        Yields:
            place and result. A labelling that cannot be used, or whose training labels have probability 0, has the
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
        """Draws from the prior, counted.

        Args:
            request: what is asked for.
            progress: told of draws.

        Returns:
            the one result.
        """
        data = self.data(request.dataset)
        return sample_row(request, inputs_of(data, request.architecture), self._unfinished, progress)

    def results(
        self, request: ResultsRequest, rows: Sequence[int], progress: ProgressCallback = ignore
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Results of any request as they finish.

        Args:
            request: what is asked for.
            rows: which, by their places.
            progress: told of stages.

        Yields:
            place and result.
        """
        match request:
            case SampleRequest():
                yield from ((row, self.samples(request, progress)) for row in rows)
            case PosteriorRequest():
                yield from self.posteriors(request, rows, progress)
            case BoundRequest():
                yield from self.bounds(request, rows, progress)
            case EstimateRequest():
                yield from self.estimates(request, rows, progress)

    def count(self, request: ResultsRequest) -> int:
        """The number of results that a request has, after checking that it can be carried out.

        Args:
            request: what is asked for.

        Returns:
            how many.

        Raises:
            InvalidInput: it cannot be carried out; :class:`InvalidLabels` if no labelling at all can be used.
        """
        if isinstance(request, SampleRequest):
            require_samples(request, len(self.data(request.dataset).X))
            return 1
        self._require_sizes(request)
        places = self.places(request.labellings)
        self._require_labels(request, places)
        return len(places)

    def facts(self, request: ResultsRequest) -> dict[str, Any]:
        """What the results of a request say of the whole.

        Args:
            request: what is asked for.

        Returns:
            the number of inputs, the data set, the versions of what numbers depend on, and the kernel's key where there
            is one.
        """
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
        """Refuse a request none of whose labellings can be used; the first one that can ends the search."""
        n = len(self.data(request.dataset).X)  # so does the time that it takes: workers refuse rows one by one
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
        """Labels that can be used, and results of those that cannot, each with its place."""
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
        """Rows, each with its labels or with why they cannot be used."""
        data, classes = self.data(request.dataset), classes_of(request.estimator)
        takes_classes = request.estimator.kind in WITH_CLASSES and not isinstance(request, PosteriorRequest)
        for row in rows:
            try:
                yield row, self.labels(places[row], data, classes, takes_classes=takes_classes)
            except InvalidLabels as error:
                yield row, error

    def _estimated(
        self, request: EstimateRequest, usable: list[tuple[int, np.ndarray]], progress: ProgressCallback
    ) -> Iterator[tuple[int, np.ndarray, Estimate]]:
        """Places, labels and estimates as they finish."""
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
