"""Runner of sharpness requests, in process or in a service's worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from nngp_prior.architectures.inputs import check_inputs
from nngp_prior.architectures.weights import parameter_shapes
from nngp_prior.data import Data
from nngp_prior.errors import InvalidInput
from nngp_prior.numerics.large_arrays import first_not_finite
from nngp_prior.progress import ProgressCallback, ignore
from nngp_prior.schemas.requests import RequestDataset, RequestLabelling, SharpnessRequest
from nngp_prior.schemas.results.sharpness import refused_measure, sharpness_row
from nngp_prior.schemas.specs.architecture import FullyConnected
from nngp_prior.schemas.weights import layout_remedy
from nngp_prior.versions import versions


@runtime_checkable
class Source(Protocol):
    """Access to data, labels and arrays, such as :class:`nngp_prior.prior.request_context.RequestContext`."""

    def data(self, dataset: RequestDataset) -> Data:
        """Return a data set."""
        ...

    def places(self, labellings: Sequence[RequestLabelling]) -> Sequence[Any]:
        """Return the sources of all labellings, one per row."""
        ...

    def labels(self, place: Any, data: Data) -> np.ndarray:
        """Return the labels of one source, -1 and +1."""
        ...

    def array(self, sha256: str) -> np.ndarray:
        """Return an uploaded array."""
        ...


class SharpnessRunner:
    """Checks requests and computes their results; only the latter imports JAX.

    Args:
        source: access to data, labels and arrays.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    def count(self, request: SharpnessRequest) -> int:
        """Return the number of results, after checking inputs, labels and weights.

        Args:
            request: the request.

        Returns:
            number of measures.

        Raises:
            InvalidInput: if an argument does not fit or is not finite.
        """
        X, _ = self._examples(request)
        shapes = parameter_shapes(request.architecture, X.shape[1:])
        self._weights(request, shapes)
        layers = dict.fromkeys(name.partition("/")[0] for name in shapes)
        for i, measure in enumerate(request.measures):
            layer = getattr(measure, "layer", None)
            if layer not in (None, "each", *layers):
                raise InvalidInput(f"measures.{i}.layer", f"got {layer!r}", f"Choose one of {', '.join(layers)}.")
        return len(request.measures)

    def input_shape(self, request: SharpnessRequest) -> tuple[int, ...]:
        """Return n and the shape of one input.

        Args:
            request: the request.

        Returns:
            shape of the inputs as passed to the network.
        """
        return self._inputs(request).shape

    def facts(self, request: SharpnessRequest) -> dict[str, Any]:
        """Return metadata shared by all results.

        Args:
            request: the request.

        Returns:
            numbers of inputs and of parameters, data, labels and versions.
        """
        X = self._inputs(request)
        shapes = parameter_shapes(request.architecture, X.shape[1:])
        return {
            "units": "nats" if request.loss == "cross-entropy" else "squares of outputs",
            "n": len(X),
            "parameters": sum(int(np.prod(shape)) for shape in shapes.values()),
            "dataset": request.dataset.model_dump(mode="json"),
            "labelling": request.labelling.model_dump(mode="json"),
            "versions": versions(),
        }

    def results(
        self, request: SharpnessRequest, rows: Sequence[int], progress: ProgressCallback = ignore
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield measures as they finish, with the quantities of :func:`nngp_prior.sharpness.measure`.

        Args:
            request: the request.
            rows: indices of the measures.
            progress: called with the state of each measure.

        Yields:
            index and result. A measure that does not apply to this network and these data has the status
            ``invalid-measure``; the others are computed.
        """
        from nngp_prior.sharpness.measurement import checked, measure_risk
        from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
        from nngp_prior.sharpness.risk.networks import finite_network

        X, y = self._examples(request)
        weights = self._weights(request, parameter_shapes(request.architecture, X.shape[1:]))
        theta = np.concatenate([array.ravel() for array in weights])
        parameters = finite_network(request.architecture, X.shape[1:]).unflatten(theta)
        risk = EmpiricalRisk.of(request.architecture, parameters, X, y, loss=request.loss, dtype=request.dtype)
        for row in rows:
            measure = request.measures[row]
            try:
                checked(risk, [measure])
            except InvalidInput as error:
                yield row, refused_measure(row, measure.kind, str(error))
                continue
            report = measure_risk(risk, [measure], request.seed, progress)
            yield row, sharpness_row(row, measure.kind, report)

    def _inputs(self, request: SharpnessRequest) -> np.ndarray:
        data = self._source.data(request.dataset)
        X = data.X if isinstance(request.architecture, FullyConnected) else data.images
        return check_inputs("dataset", X, request.architecture)

    def _examples(self, request: SharpnessRequest) -> tuple[np.ndarray, np.ndarray]:
        places = self._source.places((request.labelling,))
        if len(places) != 1:
            raise InvalidInput("labelling", f"the array has {len(places)} rows", "Upload one row of labels.")
        return self._inputs(request), self._source.labels(places[0], self._source.data(request.dataset))

    def _weights(self, request: SharpnessRequest, shapes: dict[str, tuple[int, ...]]) -> list[np.ndarray]:
        """Return all arrays in the order of the flat vector."""
        missing = [name for name in shapes if name not in request.weights]
        others = [name for name in request.weights if name not in shapes]
        if missing or others:
            problem = f"there is no {missing[0]!r}" if missing else f"the network has no {others[0]!r}"
            raise InvalidInput("weights", problem, f"Name {_listed(list(shapes))}.")
        found = []
        for name, shape in shapes.items():
            array, field = self._source.array(request.weights[name]), f"weights.{name}"
            if array.shape != shape and not (name.endswith("bias") and array.shape == shape[-1:]):
                problem = f"has shape {array.shape}, not {shape}"
                remedy = layout_remedy("the array", array.shape, shape)
                raise InvalidInput(field, problem, remedy or "Upload that of this architecture and these inputs.")
            wrong = first_not_finite(array)
            if wrong is not None:
                problem = f"holds {array[wrong][~np.isfinite(array[wrong])].flat[0]}"
                raise InvalidInput(field, problem, "The network has diverged: train it with smaller steps.")
            found.append(array)
        return found


def _listed(names: list[str]) -> str:
    return ", ".join(names if len(names) <= 8 else [*names[:4], "…", *names[-4:]])
