"""What requests are carried out with: data sets, labels, uploaded arrays, kernels and their factors."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from nngp_prior.data import Data, corrupted, label, load
from nngp_prior.errors import InvalidInput
from nngp_prior.kernels import Job, KernelCache
from nngp_prior.probability import PreparedKernel, prepare
from nngp_prior.progress import ProgressCallback, ignore
from nngp_prior.schemas.architecture import Architecture, FullyConnected
from nngp_prior.schemas.data import BlobLabellings, Boolean
from nngp_prior.schemas.labels import check_labels
from nngp_prior.schemas.request import EstimateRequest, KernelRequest, RequestDataset, RequestLabelling

T = TypeVar("T")
Blobs = Callable[[str], np.ndarray]
_KEPT = 2  # data sets, kernels and factors of the last requests


class Place(NamedTuple):
    """Where a labelling of a request comes from: a specification, and the row of an uploaded array if it is one."""

    labelling: RequestLabelling
    row: int | None


class Materials:
    """What requests share in one process, that of the last few requests.

    Threads may share it; they wait for one another while something is loaded or computed.

    Args:
        kernels: where kernels are kept; the user's cache when absent.
        blobs: gives an uploaded array by its hash, where there are any.
    """

    def __init__(self, kernels: KernelCache | None = None, blobs: Blobs | None = None) -> None:
        self._kernels, self._blobs = KernelCache() if kernels is None else kernels, blobs
        self._lock = threading.RLock()
        self._last: dict[str, OrderedDict[Hashable, Any]] = {}

    def data(self, dataset: RequestDataset) -> Data:
        """A data set.

        Args:
            dataset: its specification.

        Returns:
            inputs and their classes.
        """
        return self._kept("data", dataset.content_hash, lambda: load(dataset, self._blobs))

    def places(self, labellings: Sequence[RequestLabelling]) -> list[Place]:
        """All labellings of a request one by one.

        Args:
            labellings: of the request.

        Returns:
            one for each row of its results.

        Raises:
            InvalidInput: an uploaded array is neither n integers nor L × n.
        """
        places = []
        for labelling in labellings:
            if isinstance(labelling, BlobLabellings):
                Y = self.array(labelling.sha256)
                if Y.ndim not in (1, 2) or Y.dtype.kind not in "biu":
                    problem = f"{labelling.sha256} is {Y.dtype} of shape {Y.shape}"
                    remedy = "Upload n integers, or L × n: -1 and +1, or classes."
                    raise InvalidInput("labellings", problem, remedy)
                places += [Place(labelling, row) for row in range(len(np.atleast_2d(Y)))]
            else:
                places.append(Place(labelling, None))
        return places

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

    def kernel_job(self, request: KernelRequest) -> Job:
        """The kernel that is asked for, and its key, before it is computed.

        Args:
            request: for it.

        Returns:
            its job.
        """
        hashes = (request.dataset.content_hash, request.architecture.content_hash, request.get, request.dtype)
        return self._kept("job", hashes, lambda: self._job(request))

    def has(self, request: KernelRequest) -> bool:
        """Whether a kernel is where kernels are kept.

        Args:
            request: for it.

        Returns:
            False also where it is being computed.
        """
        return self._kernels.path(self.kernel_job(request).key).exists()

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

    def _prepared(self, request: EstimateRequest, progress: ProgressCallback) -> PreparedKernel:
        wanted = KernelRequest(architecture=request.architecture, dataset=request.dataset)
        keys = (self.kernel_job(wanted).key, request.estimator.content_hash)
        return self._kept("prepared", keys, lambda: prepare(self.kernel(wanted, progress), request.estimator))

    def _job(self, request: KernelRequest) -> Job:
        X = inputs_of(self.data(request.dataset), request.architecture)
        return Job.of(request.architecture, X, None, request.get, request.dtype)

    def _kept(self, what: str, key: Hashable, make: Callable[[], T]) -> T:
        with self._lock:
            last = self._last.setdefault(what, OrderedDict())
            if key not in last:
                while len(last) >= _KEPT:  # before the next one takes memory too
                    last.popitem(last=False)
                last[key] = make()
            last.move_to_end(key)
            return last[key]


def inputs_of(data: Data, architecture: Architecture) -> np.ndarray:
    """The inputs of a data set: images where the architecture takes them."""
    return data.X if isinstance(architecture, FullyConnected) else data.images


def about(dataset: RequestDataset) -> dict[str, Any]:
    """What a kernel's file and an estimate's JSON say of the data."""
    order = {"order": dataset.order} if isinstance(dataset, Boolean) else {}
    return {"dataset": dataset.model_dump(mode="json"), **order}
