"""Shared resources of requests: data sets, labels, uploaded arrays, kernels and their factors."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np

from nngp_prior.data import Data, corrupted, hash_of_large, label, load, outline
from nngp_prior.errors import InvalidInput, InvalidLabels
from nngp_prior.kernels import KernelCache, KernelJob
from nngp_prior.probability import FactoredKernel, prepare
from nngp_prior.progress import ProgressCallback, ignore
from nngp_prior.schemas.requests import EstimateRequest, KernelRequest, RequestDataset, RequestLabelling
from nngp_prior.schemas.specs.architecture import Architecture, FullyConnected
from nngp_prior.schemas.specs.data import BlobLabellings, Boolean
from nngp_prior.schemas.specs.labels import check_labels

T = TypeVar("T")
Blobs = Callable[[str], np.ndarray]
_FEW = 2  # number of most recent data sets, kernels and factors kept
_KEPT = {"hash": 1000}
_SIDE_BY_SIDE = ("data", "array", "hash", "job")


class Place(NamedTuple):
    """Source of a labelling: a specification, and the row if it is an uploaded array."""

    labelling: RequestLabelling
    row: int | None


class Places(Sequence[Place]):
    """Lazy sequence of all labellings of a request.

    Args:
        labellings: specifications of the request.
        rows: number of labellings per specification; None if it is not an array.
    """

    def __init__(self, labellings: Sequence[RequestLabelling], rows: Sequence[int | None]) -> None:
        self._labellings, self._rows = labellings, rows
        self._ends = list(accumulate(1 if count is None else count for count in rows))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, place: int) -> Place: ...
    @overload
    def __getitem__(self, place: slice) -> list[Place]: ...
    def __getitem__(self, place: int | slice) -> Place | list[Place]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        i = bisect_right(self._ends, place)
        count = self._rows[i]
        return Place(self._labellings[i], None if count is None else count - (self._ends[i] - place))


class RequestContext:
    """Resources of the last few requests in one process, shared between requests.

    Thread-safe; threads wait for one another while a kernel is computed or factored.

    Args:
        kernels: kernel cache; default: the user's cache.
        blobs: function that returns an uploaded array by its hash; default: no uploaded arrays.
        planning: True if requests are only planned; shape and hash of large inputs then take no memory.
    """

    def __init__(
        self, kernels: KernelCache | None = None, blobs: Blobs | None = None, *, planning: bool = False
    ) -> None:
        self._kernels, self._blobs = KernelCache() if kernels is None else kernels, blobs
        self._planning = planning
        self._lock = threading.Lock()
        self._last: dict[str, OrderedDict[Hashable, Any]] = {}
        self._making: dict[Hashable, threading.Lock] = {}

    def data(self, dataset: RequestDataset) -> Data:
        """Return a data set.

        Args:
            dataset: specification of the data set.

        Returns:
            inputs and their classes.
        """
        find = outline if self._planning else load
        return self._kept("data", dataset.content_hash, lambda: find(dataset, self._blobs))

    def places(self, labellings: Sequence[RequestLabelling]) -> Places:
        """Return the sources of all labellings of a request.

        Args:
            labellings: specifications of the request.

        Returns:
            one source for each row of the results.

        Raises:
            InvalidInput: if an uploaded array is neither (n,) nor (L, n), or not of real numbers or booleans.
        """
        found: dict[str, int] = {}
        for labelling in labellings:
            if isinstance(labelling, BlobLabellings) and labelling.sha256 not in found:
                Y = self.array(labelling.sha256)
                if Y.ndim not in (1, 2) or Y.dtype.kind not in "biuf":
                    problem = f"{labelling.sha256} is {Y.dtype} of shape {Y.shape}"
                    remedy = "Upload n integers, or L × n: -1 and +1, or classes."
                    raise InvalidInput("labellings", problem, remedy)
                found[labelling.sha256] = len(Y) if Y.ndim == 2 else 1
        return Places(labellings, [found.get(getattr(each, "sha256", "")) for each in labellings])

    def labels(
        self, place: Place, data: Data, classes: int | None = None, *, takes_classes: bool = False
    ) -> np.ndarray:
        """Return one labelling, with its corruption applied.

        Args:
            place: source of the labelling.
            data: inputs and their classes.
            classes: C, if labels are classes 0 … C-1.
            takes_classes: True if error messages may suggest the request's option ``classes``.

        Returns:
            -1 and +1, or classes.

        Raises:
            InvalidLabels: if the labels are neither, or do not fit the data.
        """
        labelling = place.labelling
        if not isinstance(labelling, BlobLabellings):
            y = label(labelling, data.classes, data.known_classes)
            return check_labels(y, len(data.X), classes, takes_classes=takes_classes, field="labels")
        Y, n = self.array(labelling.sha256), len(data.X)
        if Y.shape == (n, 1) and n > 1:
            problem = f"the array has shape {Y.shape}, {n:,} labellings of one input"
            raise InvalidLabels("labels", problem, f"Upload one labelling as ({n},) or (1, {n}).")
        row = np.atleast_2d(Y)[place.row]
        y = check_labels(row, len(data.X), classes, takes_classes=takes_classes, field="labels")
        return y if labelling.corruption is None else corrupted(y.astype(np.int64), labelling.corruption, classes)

    def array(self, sha256: str) -> np.ndarray:
        """Return an uploaded array.

        Args:
            sha256: SHA-256 of its file.

        Returns:
            the array.

        Raises:
            InvalidInput: if it does not exist, or uploaded arrays are not available.
        """
        blobs = self._blobs
        if blobs is None:
            raise InvalidInput("kind", "got 'blob', which only a service has", "Pass arrays, or values.")
        return self._kept("array", sha256, lambda: blobs(sha256))

    def kernel_job(self, request: KernelRequest) -> KernelJob:
        """Return the job of the requested kernel, without computing it.

        Args:
            request: kernel request.

        Returns:
            its job.
        """
        hashes = (request.dataset.content_hash, request.architecture.content_hash, request.get, request.dtype)
        return self._kept("job", hashes, lambda: self._job(request))

    def kernel_key(self, request: KernelRequest) -> str | None:
        """Return the key of the requested kernel.

        Args:
            request: kernel request.

        Returns:
            the key; None if requests are only planned and large inputs are standardised.
        """
        job = self.kernel_job(request)
        if not self._planning or any(job.X.strides):
            return job.key
        dataset = request.dataset
        known = self._kept("hash", dataset.content_hash, lambda: hash_of_large(dataset, self._blobs))
        return None if known is None else job.key_of(known)

    def has(self, request: KernelRequest) -> bool:
        """True if the requested kernel is in the cache.

        Args:
            request: kernel request.

        Returns:
            True if it is finished; False also while it is being computed.
        """
        key = self.kernel_key(request)
        return key is not None and self._kernels.path(key).exists()

    def require_room(self, request: KernelRequest) -> None:
        """Refuse a kernel that does not fit into the cache.

        Args:
            request: kernel request.
        """
        if not self.has(request):
            self._kernels.require_room(self.kernel_job(request))

    def forget(self) -> None:
        """Release everything kept in memory."""
        self._last.clear()

    def kernel(self, request: KernelRequest, progress: ProgressCallback = ignore) -> np.ndarray:
        """Return a kernel matrix, from the cache if available.

        Args:
            request: kernel request.
            progress: progress callback, called per computed tile.

        Returns:
            the matrix, (n, n).
        """
        job = self.kernel_job(request)
        return self._kept("kernel", job.key, lambda: self._kernels.of(job, progress, about(request.dataset)))

    def _prepared(self, request: EstimateRequest, progress: ProgressCallback) -> FactoredKernel:
        wanted = KernelRequest(architecture=request.architecture, dataset=request.dataset)
        keys = (self.kernel_job(wanted).key, request.estimator.content_hash)
        return self._kept("prepared", keys, lambda: prepare(self.kernel(wanted, progress), request.estimator))

    def _job(self, request: KernelRequest) -> KernelJob:
        X = inputs_of(self.data(request.dataset), request.architecture)
        return KernelJob.of(request.architecture, X, None, request.get, request.dtype)

    def _kept(self, what: str, key: Hashable, make: Callable[[], T]) -> T:
        """Return a kept object or make it; concurrent callers wait. Kernels and factors are made one at a time."""
        of = (what, key if what in _SIDE_BY_SIDE else None)
        with self._lock:
            last = self._last.setdefault(what, OrderedDict())
            making = self._making.setdefault(of, threading.Lock())
        try:
            with making:
                with self._lock:
                    if key in last:
                        last.move_to_end(key)
                        return last[key]
                    while len(last) >= _KEPT.get(what, _FEW):  # free memory before the next one is made
                        last.popitem(last=False)
                made = make()
                with self._lock:
                    last[key] = made
                return made
        finally:
            with self._lock:
                self._making.pop(of, None)


def inputs_of(data: Data, architecture: Architecture) -> np.ndarray:
    """Return the inputs of a data set, as images if the architecture takes images."""
    return data.X if isinstance(architecture, FullyConnected) else data.images


def about(dataset: RequestDataset) -> dict[str, Any]:
    """Return the description of the data for a kernel's file and an estimate's JSON."""
    order = {"order": dataset.order} if isinstance(dataset, Boolean) else {}
    return {"dataset": dataset.model_dump(mode="json"), **order}
