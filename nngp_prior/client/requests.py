"""Requests built from arrays or specifications."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from nngp_prior.errors import InvalidInput, InvalidLabels
from nngp_prior.schemas.arrays import numeric_array
from nngp_prior.schemas.base import Specification
from nngp_prior.schemas.measures.registry import measure_of
from nngp_prior.schemas.requests import PosteriorRequest, SharpnessRequest
from nngp_prior.schemas.specs.data import BlobData, BlobLabellings
from nngp_prior.schemas.specs.estimator import WITH_CLASSES, Estimator, classes_of
from nngp_prior.schemas.specs.labels import check_labels
from nngp_prior.schemas.weights import named_weights

S = TypeVar("S", bound=Specification)
Upload = Callable[[np.ndarray], str]
_PIECE = 2**18
_NO_LABEL = -128
_PLACEHOLDER = "0" * 64  # hash of arrays that are uploaded once the other fields have been validated


class Npy:
    """Array as the bytes of a ``.npy`` file, without a copy.

    Args:
        array: array of real numbers.

    Attributes:
        array: the array in the memory order and byte order of the file.
        sha256: SHA-256 of the file.
        length: size of the file in bytes.
    """

    def __init__(self, array: np.ndarray) -> None:
        if array.dtype.kind not in "biuf":
            raise InvalidInput("array", f"has the type {array.dtype}", "Pass real numbers.")
        little = np.float64 if array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8) else array.dtype
        self.array = np.ascontiguousarray(array, np.dtype(little).newbyteorder("<"))
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(self.array))
        self._header, self._data = header.getvalue(), self.array.reshape(-1).view(np.uint8).data
        self.length = len(self._header) + len(self._data)
        sha = hashlib.sha256(self._header)
        sha.update(self._data)
        self.sha256 = sha.hexdigest()

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Yield the file in pieces.

        Yields:
            its bytes.
        """
        yield self._header
        for i in range(0, len(self._data), _PIECE):
            yield self._data[i : i + _PIECE]


def with_arrays(model: type[S], parts: Mapping[str, Any], X: Any, Y: Any, upload: Upload) -> S:
    """Build a request, and upload its arrays once everything else has been validated.

    Args:
        model: model of the request.
        parts: other fields of the request.
        X: array of inputs, or specification of a data set.
        Y: labels, (n,) or (L, n), or specifications of labellings; None if the request has none.
        upload: function that uploads an array and returns its hash.

    Returns:
        the request.
    """
    specified, labels = ((), None) if Y is None else _labellings(Y)
    dataset = X if _is_specification(X) else _inputs(X)
    if Y is not None and labels is not None:
        signs_only = model is PosteriorRequest
        _check_rows(labels, np.atleast_2d(_array("Y", Y)), _number_of(dataset), parts["estimator"], signs_only)
    wanted = {**parts, "dataset": BlobData(sha256=_PLACEHOLDER) if isinstance(dataset, np.ndarray) else dataset}
    if Y is not None:
        wanted["labellings"] = (BlobLabellings(sha256=_PLACEHOLDER),) if labels is not None else specified
    request = model(**wanted)
    if isinstance(dataset, np.ndarray):
        request = request.model_copy(update={"dataset": BlobData(sha256=upload(dataset))})
    if labels is not None:
        request = request.model_copy(update={"labellings": (BlobLabellings(sha256=upload(labels)),)})
    return request


def sharpness_request(
    architecture: Any,
    parameters: Any,
    X: Any,
    y: Any,
    measures: Sequence[Any],
    options: Mapping[str, Any],
    upload: Upload,
) -> SharpnessRequest:
    """Build a request for measures of sharpness, and upload its arrays.

    Args:
        architecture: specification of the network.
        parameters: parameters as returned by its ``init``, or pairs of weights and biases.
        X: see :func:`with_arrays`.
        y: one labelling, see :func:`with_arrays`.
        measures: names, or specifications.
        options: other fields of the request.
        upload: see :func:`with_arrays`.

    Returns:
        the request.

    Raises:
        InvalidInput: if there are several labellings, or a field is invalid.
    """
    arrays = named_weights(parameters)
    asked = [measures] if isinstance(measures, str | Specification | Mapping) else measures
    parts = {
        "architecture": architecture,
        "weights": dict.fromkeys(arrays, _PLACEHOLDER),
        "measures": tuple(measure_of(each) if isinstance(each, str) else each for each in asked),
        **options,
    }
    request = with_labelling(SharpnessRequest, parts, X, y, upload)
    return request.model_copy(update={"weights": {name: upload(array) for name, array in arrays.items()}})


def with_labelling(model: type[S], parts: Mapping[str, Any], X: Any, y: Any, upload: Upload) -> S:
    """Build a request with one labelling, and upload its arrays once everything else has been validated.

    Args:
        model: model of the request.
        parts: other fields of the request.
        X: see :func:`with_arrays`.
        y: one labelling, see :func:`with_arrays`.
        upload: see :func:`with_arrays`.

    Returns:
        the request.

    Raises:
        InvalidInput: if there are several labellings, or a field is invalid.
    """
    specified, labels = _labellings(y)
    rows = len(specified) if labels is None else len(labels)
    if rows != 1:
        raise InvalidInput("y", f"got {rows} labellings", "Pass one.")
    dataset = X if _is_specification(X) else _inputs(X)
    if labels is not None:
        check_labels(labels[0], _number_of(dataset) or labels.shape[1], field="y")
    request = model(
        **parts,
        dataset=BlobData(sha256=_PLACEHOLDER) if isinstance(dataset, np.ndarray) else dataset,
        labelling=specified[0] if labels is None else BlobLabellings(sha256=_PLACEHOLDER),
    )
    sent: dict[str, Any] = {}
    if isinstance(dataset, np.ndarray):
        sent["dataset"] = BlobData(sha256=upload(dataset))
    if labels is not None:
        sent["labelling"] = BlobLabellings(sha256=upload(labels))
    return request.model_copy(update=sent)


def _is_specification(value: Any) -> bool:
    return isinstance(value, Specification | Mapping)


def _inputs(X: ArrayLike) -> np.ndarray:
    array = _array("X", X)
    if array.ndim not in (2, 3, 4) or array.size == 0:
        raise InvalidInput(
            "X",
            f"has shape {array.shape}",
            "Pass (n, d) or (n, height, width[, channels]), or a data set.",
        )
    return array


def _labellings(Y: Any) -> tuple[tuple[Any, ...], np.ndarray | None]:
    """Return specifications, or rows of labels."""
    if _is_specification(Y):
        return (Y,), None
    if isinstance(Y, Sequence) and any(_is_specification(each) for each in Y):
        return tuple(Y), None
    try:
        array = _array("Y", Y)
    except InvalidInput as error:
        raise InvalidLabels(error.field, error.problem, error.remedy) from None
    if array.ndim not in (1, 2) or array.size == 0:
        raise InvalidLabels("Y", f"has shape {array.shape}", "Pass (n,) or (L, n) labels, or specifications.")
    return (), np.atleast_2d(_signs(array))


def _number_of(dataset: Any) -> int | None:
    """Return the number of inputs, if known without loading."""
    if isinstance(dataset, np.ndarray):
        return len(dataset)
    return dataset.get("n") if isinstance(dataset, Mapping) else getattr(dataset, "n", None)


def _check_rows(Y: np.ndarray, given: np.ndarray, n: int | None, estimator: Estimator, signs_only: bool) -> None:
    """Raise if all labellings are invalid; warn of invalid ones, whose rows have no results.

    Args:
        Y: (L, n) labels as integers.
        given: the labels as passed by the user, for the message.
        n: number of inputs; None: not checked.
        estimator: estimator; its ``classes`` determine the valid labels.
        signs_only: True if the request does not accept classes.

    Raises:
        InvalidLabels: if no labelling is valid.
    """
    classes = None if signs_only else classes_of(estimator)
    usable = ((Y == 1) | (Y == -1) if classes is None else (Y >= 0) & (classes > Y)).all(axis=1)
    bad = np.flatnonzero(~usable) if n in (None, Y.shape[1]) else np.arange(len(Y))
    if not len(bad):
        return
    try:
        takes_classes = not signs_only and estimator.kind in WITH_CLASSES
        check_labels(given[bad[0]], n or Y.shape[1], classes, takes_classes=takes_classes, field="Y")
    except InvalidLabels as error:
        if len(bad) == len(Y):
            raise
        message = (
            f"{len(bad)} of {len(Y)} labellings cannot be used and will have no result; labelling {bad[0]}: {error}"
        )
        warnings.warn(message, stacklevel=5)  # the line that calls the client's method


def _signs(labels: np.ndarray) -> np.ndarray:
    """Convert labels to int8, or int16 if needed; non-integers become invalid labels, so that their row is refused."""
    if labels.dtype.kind == "b":
        return np.where(labels, 1, -1).astype(np.int8)
    with np.errstate(invalid="ignore"):
        held = labels.astype(np.int16)
    whole = np.where(held == labels, held, np.int16(_NO_LABEL))
    small = whole.astype(np.int8)
    return small if np.array_equal(small, whole) else whole


def _array(name: str, value: ArrayLike) -> np.ndarray:
    try:
        array = numeric_array(value)
    except ValueError:
        raise InvalidInput(name, "has rows of different lengths", "Pass an array.") from None
    except TypeError as error:
        problem = f"is not an array of real numbers ({error})"
        raise InvalidInput(name, problem, "Pass numbers, or a specification.") from None
    return array
