"""Requests from what users have at hand: arrays, or specifications."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from nngp_prior.errors import InvalidInput, InvalidLabels
from nngp_prior.schemas.arrays import numeric_array
from nngp_prior.schemas.base import Specification
from nngp_prior.schemas.data import BlobData, BlobLabellings
from nngp_prior.schemas.request import SharpnessRequest
from nngp_prior.schemas.sharpness import measure_of

S = TypeVar("S", bound=Specification)
Upload = Callable[[np.ndarray], str]
_PIECE = 2**18
_NO_LABEL = -128


class Npy:
    """An array as the bytes of a ``.npy`` file, which are not copied.

    Args:
        array: of real numbers.

    Attributes:
        array: in the order and the byte order of the file.
        sha256: of the file.
        length: of the file, in bytes.
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
        """The file, piece by piece.

        Yields:
            its bytes.
        """
        yield self._header
        for i in range(0, len(self._data), _PIECE):
            yield self._data[i : i + _PIECE]


def with_arrays(model: type[S], parts: Mapping[str, Any], X: Any, Y: Any, upload: Upload) -> S:
    """A request whose arrays are uploaded, after all else was checked.

    Args:
        model: of the request.
        parts: its other fields.
        X: an array of inputs, or the specification of a data set.
        Y: labels (n,) or (L, n), or specifications of labellings; None where the request has none.
        upload: takes an array and gives its hash.

    Returns:
        the request.
    """
    specified, labels = ((), None) if Y is None else _labellings(Y)
    dataset = X if _is_specification(X) else _inputs(X)
    placeholder = "0" * 64  # so that what is wrong with the rest is found before anything is uploaded
    wanted = {**parts, "dataset": BlobData(sha256=placeholder) if isinstance(dataset, np.ndarray) else dataset}
    if Y is not None:
        wanted["labellings"] = (BlobLabellings(sha256=placeholder),) if labels is not None else specified
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
    """A request for measures of sharpness.

    Args:
        architecture: its specification.
        parameters: as its ``init`` gives them, or pairs of weights and biases.
        X: as for :func:`with_arrays`.
        y: one labelling, as there.
        measures: names, or specifications.
        options: the other fields of the request.
        upload: as there.

    Returns:
        the request; arrays are uploaded.

    Raises:
        InvalidInput: there are several labellings, or something else is wrong.
    """
    arrays = named_weights(parameters)
    asked = [measures] if isinstance(measures, str | Specification | Mapping) else measures
    specified, labels = _labellings(y)
    rows = len(specified) if labels is None else len(labels)
    if rows != 1:
        raise InvalidInput("y", f"got {rows} labellings", "Pass one.")
    dataset = X if _is_specification(X) else _inputs(X)
    placeholder = "0" * 64
    request = SharpnessRequest(
        architecture=architecture,
        weights=dict.fromkeys(arrays, placeholder),
        dataset=BlobData(sha256=placeholder) if isinstance(dataset, np.ndarray) else dataset,
        labelling=specified[0] if labels is None else BlobLabellings(sha256=placeholder),
        measures=tuple(measure_of(each) if isinstance(each, str) else each for each in asked),
        **options,
    )
    sent: dict[str, Any] = {"weights": {name: upload(array) for name, array in arrays.items()}}
    if isinstance(dataset, np.ndarray):
        sent["dataset"] = BlobData(sha256=upload(dataset))
    if labels is not None:
        sent["labelling"] = BlobLabellings(sha256=upload(labels))
    return request.model_copy(update=sent)


def named_weights(parameters: Any) -> dict[str, np.ndarray]:
    """The arrays of a network by their names: layers are numbered from the input on.

    Args:
        parameters: nested tuples and lists, in the innermost of which stand the weights of a layer and its biases; a
            layer without biases has None, or nothing, in their place.

    Returns:
        arrays under ``dense 1/weight``, ``dense 1/bias``, ``convolution 2/weight``, …

    Raises:
        InvalidInput: they are something else.
    """
    found: dict[str, np.ndarray] = {}
    layers = list(_layers(parameters))
    for number, layer in enumerate(layers, start=1):
        arrays = [_array("parameters", part) for part in layer if part is not None]
        kind = {2: "dense", 4: "convolution"}.get(arrays[0].ndim)
        if kind is None or len(arrays) > 2:
            problem = f"layer {number} has arrays of shapes {', '.join(str(array.shape) for array in arrays)}"
            raise InvalidInput("parameters", problem, "Pass weights and biases, as init gave or train returned them.")
        found |= {f"{kind} {number}/{role}": array for role, array in zip(("weight", "bias"), arrays, strict=False)}
    if not found:
        raise InvalidInput("parameters", "hold no arrays", "Pass what init gave, or train returned.")
    return found


def _layers(tree: Any) -> Iterator[Sequence[Any]]:
    if not isinstance(tree, tuple | list):
        raise InvalidInput(
            "parameters", f"hold a {type(tree).__name__} among the layers", "Pass what init gave, or train returned."
        )
    if tree and tree[0] is not None and not isinstance(tree[0], tuple | list):
        yield tree
        return
    for part in tree:
        yield from _layers(part)


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
    """Specifications, or rows of labels."""
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


def _signs(labels: np.ndarray) -> np.ndarray:
    """Labels as int8; what that cannot hold becomes what is no label either, so that its row alone is refused."""
    if labels.dtype.kind == "b":
        return np.where(labels, 1, -1).astype(np.int8)
    with np.errstate(invalid="ignore"):
        held = labels.astype(np.int8)
    return np.where(held == labels, held, np.int8(_NO_LABEL))


def _array(name: str, value: ArrayLike) -> np.ndarray:
    try:
        array = numeric_array(value)
    except ValueError:
        raise InvalidInput(name, "has rows of different lengths", "Pass an array.") from None
    except TypeError as error:
        problem = f"is not an array of real numbers ({error})"
        raise InvalidInput(name, problem, "Pass numbers, or a specification.") from None
    return array
