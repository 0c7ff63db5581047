"""What requests are carried out with: data sets, labels, uploaded arrays, kernels and their factors."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np

from nngp_prior.data import Data, corrupted, hash_of_large, label, load, outline
from nngp_prior.errors import InvalidInput
from nngp_prior.kernels import KernelCache, KernelJob
from nngp_prior.probability import FactoredKernel, prepare
from nngp_prior.progress import ProgressCallback, ignore
from nngp_prior.schemas.requests import EstimateRequest, KernelRequest, RequestDataset, RequestLabelling
from nngp_prior.schemas.specs.architecture import Architecture, FullyConnected
from nngp_prior.schemas.specs.data import BlobLabellings, Boolean
from nngp_prior.schemas.specs.labels import check_labels

T = TypeVar("T")
Blobs = Callable[[str], np.ndarray]
_FEW = 2  # data sets, kernels and factors of the last requests that are kept
_KEPT = {"hash": 1000}
_SIDE_BY_SIDE = ("data", "array", "hash", "job")


class Place(NamedTuple):
    """Where a labelling of a request comes from: a specification, and the row of an uploaded array if it is one."""

    labelling: RequestLabelling
    row: int | None


class Places(Sequence[Place]):
    """All labellings of a request one by one, none of which takes memory.

    Args:
        labellings: of the request.
        rows: how many each of them stands for; None is one that is no array.
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
    """What requests share in one process, that of the last few requests.

    Threads may share it; they wait for one another while a kernel is computed or factored.

    Args:
        kernels: where kernels are kept; the user's cache when absent.
        blobs: gives an uploaded array by its hash, where there are any.
        planning: whether requests are only planned: of large inputs, their shape and hash take no memory.
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
        """A data set.

        Args:
            dataset: its specification.

        Returns:
            inputs and their classes.
        """
        find = outline if self._planning else load
        return self._kept("data", dataset.content_hash, lambda: find(dataset, self._blobs))

    def places(self, labellings: Sequence[RequestLabelling]) -> Places:
        """All labellings of a request one by one.

        Args:
            labellings: of the request.

        Returns:
            one for each row of its results.

        Raises:
            InvalidInput: an uploaded array is neither n integers nor L × n.
        """
        found: dict[str, int] = {}
        for labelling in labellings:
            if isinstance(labelling, BlobLabellings) and labelling.sha256 not in found:
                Y = self.array(labelling.sha256)
                if Y.ndim not in (1, 2) or Y.dtype.kind not in "biu":
                    problem = f"{labelling.sha256} is {Y.dtype} of shape {Y.shape}"
                    remedy = "Upload n integers, or L × n: -1 and +1, or classes."
                    raise InvalidInput("labellings", problem, remedy)
                found[labelling.sha256] = len(Y) if Y.ndim == 2 else 1
        return Places(labellings, [found.get(getattr(each, "sha256", "")) for each in labellings])

    def labels(
        self, place: Place, data: Data, classes: int | None = None, *, takes_classes: bool = False
    ) -> np.ndarray:
        """One labelling, corruption included.

        Args:
            place: where it comes from.
            data: the inputs.
            classes: C, where labels are classes 0 … C-1.
            takes_classes: whether the request has an option ``classes`` that a message may name.

        Returns:
            -1 and +1, or classes.

        Raises:
            InvalidLabels: it is not that, or does not fit the data.
        """
        labelling = place.labelling
        if not isinstance(labelling, BlobLabellings):
            y = label(labelling, data.classes, data.known_classes)
            return check_labels(y, len(data.X), classes, takes_classes=takes_classes)
        row = np.atleast_2d(self.array(labelling.sha256))[place.row]
        y = check_labels(row, len(data.X), classes, takes_classes=takes_classes)
        return y if labelling.corruption is None else corrupted(y.astype(np.int64), labelling.corruption, classes)

    def array(self, sha256: str) -> np.ndarray:
        """An uploaded array.

        Args:
            sha256: of its file.

        Returns:
            the array.

        Raises:
            InvalidInput: it is not there, or there are none at all.
        """
        blobs = self._blobs
        if blobs is None:
            raise InvalidInput("kind", "got 'blob', which only a service has", "Pass arrays, or values.")
        return self._kept("array", sha256, lambda: blobs(sha256))

    def kernel_job(self, request: KernelRequest) -> KernelJob:
        """The kernel that is asked for, and its key, before it is computed.

        Args:
            request: for it.

        Returns:
            its job.
        """
        hashes = (request.dataset.content_hash, request.architecture.content_hash, request.get, request.dtype)
        return self._kept("job", hashes, lambda: self._job(request))

    def kernel_key(self, request: KernelRequest) -> str | None:
        """The key of the kernel that is asked for.

        Args:
            request: for it.

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
        """Whether a kernel is where kernels are kept.

        Args:
            request: for it.

        Returns:
            False also where it is being computed.
        """
        key = self.kernel_key(request)
        return key is not None and self._kernels.path(key).exists()

    def require_room(self, request: KernelRequest) -> None:
        """Refuse a kernel that cannot be kept.

        Args:
            request: for it.

        """
        if not self.has(request):
            self._kernels.require_room(self.kernel_job(request))

    def forget(self) -> None:
        """Let go of all that is kept in memory."""
        self._last.clear()

    def kernel(self, request: KernelRequest, progress: ProgressCallback = ignore) -> np.ndarray:
        """A kernel matrix, from where kernels are kept if it is there.

        Args:
            request: for it.
            progress: told of each tile that is computed.

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
        """What was made before, or is made now: whoever wants the same waits; kernels and factors one at a time."""
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
                    while len(last) >= _KEPT.get(what, _FEW):  # before the next one takes memory too
                        last.popitem(last=False)
                made = make()
                with self._lock:
                    last[key] = made
                return made
        finally:
            with self._lock:
                self._making.pop(of, None)


def inputs_of(data: Data, architecture: Architecture) -> np.ndarray:
    """The inputs of a data set: images where the architecture takes them."""
    return data.X if isinstance(architecture, FullyConnected) else data.images


def about(dataset: RequestDataset) -> dict[str, Any]:
    """What a kernel's file and an estimate's JSON say of the data."""
    order = {"order": dataset.order} if isinstance(dataset, Boolean) else {}
    return {"dataset": dataset.model_dump(mode="json"), **order}
