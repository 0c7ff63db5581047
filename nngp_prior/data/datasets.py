"""Loading of data sets: a subset, preprocessed as specified."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from jaxtyping import Float, Integer

from nngp_prior.data import image_files  # noqa: F401  registers its data sets
from nngp_prior.data.own_files import read_inputs
from nngp_prior.data.raw import DATASETS, Raw
from nngp_prior.errors import DataUnavailable, InvalidInput
from nngp_prior.numerics.large_arrays import first_not_finite, release
from nngp_prior.schemas.arrays import plain_array
from nngp_prior.schemas.specs.data import BlobData, Boolean, Dataset, Digits, ImageData, Inline, PlainPreprocessing
from nngp_prior.schemas.text import one_line

_LARGE = 2**21  # numbers; larger inputs are not loaded for an outline
_BLOCK = 2**20  # numbers hashed at a time
_MOST = 10**7  # maximum number of uploaded inputs to draw from


class Data(NamedTuple):
    """Inputs and their classes.

    Attributes:
        X: one flattened input per row; images in the order height, width, channels.
        classes: integers; zeros if inputs have no classes.
        place: index of each input in its data set (of the split); for Boolean inputs, the number whose bits they are.
        image_shape: (height, width, channels); (d,) if inputs are not images.
        known_classes: all classes of the data set, of which a small subset may lack some; empty if inputs have no
            classes.
    """

    X: Float[np.ndarray, "n d"]
    classes: Integer[np.ndarray, " n"]
    place: Integer[np.ndarray, " n"]
    image_shape: tuple[int, ...]
    known_classes: tuple[int, ...]

    def __repr__(self) -> str:
        return one_line(self)

    @property
    def images(self) -> Float[np.ndarray, "n ..."]:
        """X in image shape, as convolutional networks take it: (n, *image_shape)."""
        return self.X.reshape(-1, *self.image_shape)


def load(dataset: Dataset | BlobData, blobs: Callable[[str], np.ndarray] | None = None) -> Data:
    """Load a data set.

    Args:
        dataset: specification of the data set.
        blobs: function that returns an uploaded array by its hash; default: no uploaded arrays.

    Returns:
        inputs, preprocessed, in the order in which they were drawn.

    Raises:
        DataUnavailable: if its files are missing or broken.
        InvalidInput: if more inputs are requested than exist, arrays are not valid inputs or classes, or the
            preprocessing does not apply to the inputs.
    """
    raw, place = _selected(dataset, blobs)
    problem = _not_finite(raw.images)
    if problem:
        raise InvalidInput("dataset", problem[0].removesuffix("."), problem[1])
    place = np.arange(len(raw.images)) if place is None else place
    return _data(raw, place, dataset.preprocessing)


def outline(dataset: Dataset | BlobData, blobs: Callable[[str], np.ndarray] | None = None) -> Data:
    """Outline a data set for callers that need only the shape of its inputs.

    Args:
        dataset: specification of the data set.
        blobs: function that returns an uploaded array by its hash; default: no uploaded arrays.

    Returns:
        as :func:`load`, with zeros that take no memory in place of large inputs, whose values are not checked.
    """
    raw, place = _selected(dataset, blobs)
    n, shape = len(raw.images) if place is None else len(place), raw.images.shape[1:]
    if n * math.prod(shape) <= _LARGE:
        return load(dataset, blobs)
    nothing = np.broadcast_to(0.0, (n, math.prod(shape)))
    classes = raw.classes if place is None else raw.classes[place]
    return Data(nothing, classes.astype(np.int64, copy=False), np.broadcast_to(0, n), shape, raw.known_classes)


def hash_of_large(dataset: Dataset | BlobData, blobs: Callable[[str], np.ndarray] | None = None) -> str | None:
    """Return the SHA-256 of the inputs of a data set, reading it in parts.

    Args:
        dataset: specification of the data set.
        blobs: function that returns an uploaded array by its hash; default: no uploaded arrays.

    Returns:
        the hash of their values in float64; None if they are standardised, which needs all of them at once.
    """
    if dataset.preprocessing == "standardise":
        return None
    raw, place = _selected(dataset, blobs)
    found = hashlib.sha256()
    n = len(raw.images) if place is None else len(place)
    together = max(1, _BLOCK // math.prod(raw.images.shape[1:]))
    for start in range(0, n, together):
        rows = slice(start, start + together) if place is None else place[start : start + together]
        found.update(_preprocessed(raw, rows, dataset.preprocessing).data)
        release(raw.images)
    return found.hexdigest()


def _selected(dataset: Dataset | BlobData, blobs: Callable[[str], np.ndarray] | None) -> tuple[Raw, np.ndarray | None]:
    """Return a whole data set, and the indices of the selected inputs; None for all in their order."""
    raw = _uploaded(dataset, blobs) if isinstance(dataset, BlobData) else DATASETS[dataset](dataset)
    if isinstance(dataset, ImageData) and dataset.classes is not None:
        chosen = np.flatnonzero(np.isin(raw.classes, dataset.classes))
        raw = raw._replace(candidates=chosen, known_classes=dataset.classes)
    available = len(raw.images) if raw.candidates is None else len(raw.candidates)
    n = max(available, 1) if dataset.n is None else dataset.n
    if n > available:
        raise InvalidInput("n", f"{n:,} inputs where {_name(dataset)} has {available:,}", f"Use at most {available:,}.")
    if dataset.n is None and raw.in_order:
        return raw, raw.candidates
    drawn = np.random.default_rng(dataset.seed).permutation(available)[:n]
    return raw, drawn if raw.candidates is None else raw.candidates[drawn]


def load_file(path: Path, preprocessing: str = "none") -> Data:
    """Load a user's own inputs.

    Args:
        path: file for :func:`nngp_prior.data.own_files.read_inputs`: inputs (n, d) or (n, height, width[, channels])
            and optionally n labels: integers, or booleans, which become -1 and +1.
        preprocessing: ``none``, ``standardise`` or ``unit-norm``, as for data sets.

    Returns:
        all inputs in their order.

    Raises:
        DataMissing: if the file does not exist.
        DataUnavailable: if it is not in NumPy's format, or its arrays are not as above.
        InvalidInput: if the preprocessing is unknown, or does not apply to the inputs.
    """
    if preprocessing not in get_args(PlainPreprocessing):
        choices = ", ".join(get_args(PlainPreprocessing))
        raise InvalidInput("preprocessing", f"got {preprocessing!r} for a file", f"Choose one of {choices}.")
    images, classes = read_inputs(path)
    classes = None if classes is None else _as_classes(classes)
    problem = _unusable(images, classes) or _not_finite(images)
    if problem:
        raise DataUnavailable(f"{path}: {' '.join(problem)}")
    return _data(_from_arrays(images, classes), np.arange(len(images)), preprocessing)


def _as_classes(labels: np.ndarray) -> np.ndarray:
    """Convert labels to integers if they represent integers: one per row, whole numbers, booleans."""
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.dtype == np.bool_:
        return np.where(labels, 1, -1)
    whole = labels.dtype.kind == "f" and (np.abs(labels) < 2**53).all() and (labels == np.floor(labels)).all()
    return labels.astype(np.int64) if whole else labels


def _unusable(images: np.ndarray, classes: np.ndarray | None) -> tuple[str, str] | None:
    """Return problem and remedy of invalid arrays of inputs and classes."""
    if images.dtype.kind not in "buif":
        return f"inputs are {images.dtype}.", "Save real numbers."
    if images.ndim not in (2, 3, 4) or images.size == 0:
        return f"inputs have shape {images.shape}.", "Save (n, d) or (n, height, width[, channels]), n > 0."
    if classes is not None and (classes.dtype.kind not in "biu" or classes.shape != images.shape[:1]):
        return (
            f"labels are {classes.dtype} of shape {classes.shape} with {len(images):,} inputs.",
            "Save one integer an input.",
        )
    return None


def _not_finite(images: np.ndarray) -> tuple[str, str] | None:
    """As :func:`_unusable`, for values that are not finite."""
    wrong = first_not_finite(images)
    return None if wrong is None else (f"input {wrong} has values that are not finite.", "Remove or correct it.")


def _uploaded(dataset: BlobData, blobs: Callable[[str], np.ndarray] | None) -> Raw:
    if blobs is None:
        raise InvalidInput("dataset.kind", "got 'blob', which only a service has", "Pass arrays, or choose inline.")
    images = blobs(dataset.sha256)
    classes = None if dataset.classes is None else _as_classes(blobs(dataset.classes))
    problem = _unusable(images, classes)
    if problem:
        raise InvalidInput("dataset", problem[0].removesuffix("."), problem[1])
    if len(images) > _MOST:
        raise InvalidInput("dataset", f"has {len(images):,} inputs", f"Upload at most {_MOST:,}.")
    return _from_arrays(images, classes)


def _data(raw: Raw, place: np.ndarray, preprocessing: str) -> Data:
    return Data(
        _preprocessed(raw, place, preprocessing),
        raw.classes[place].astype(np.int64),
        place,
        raw.images.shape[1:],
        raw.known_classes,
    )


def _from_arrays(images: np.ndarray, classes: np.ndarray | None) -> Raw:
    images = images[..., None] if images.ndim == 3 else images
    if classes is None:
        return Raw(images, np.broadcast_to(np.int64(0), len(images)), (), in_order=True)
    return Raw(images, classes, tuple(np.unique(classes).astype(int).tolist()), in_order=True)


def _name(dataset: Dataset | BlobData) -> str:
    match dataset:
        case ImageData(split=split, classes=None):
            return f"{dataset.kind} ({split})"
        case ImageData(split=split, classes=tuple(classes)):
            return f"{dataset.kind} ({split}, classes {', '.join(map(str, classes))})"
        case _:
            return dataset.kind


def _preprocessed(raw: Raw, rows: np.ndarray | slice, preprocessing: str) -> np.ndarray:
    images = raw.images[rows]
    X = images.reshape(len(images), -1).astype(np.float64)
    match preprocessing:
        case "none":
            return X
        case "unit-interval":
            return X / raw.largest_pixel
        case "standardise":
            X = _near_one(X, axis=None)
            spread = X.std()
            if spread == 0:
                raise InvalidInput("preprocessing", "standardise on inputs that are all alike", "Use none.")
            return (X - X.mean()) / spread
        case _:
            X = _near_one(X, axis=1)
            norm = np.linalg.norm(X, axis=1, keepdims=True)
            if not norm.all():
                i = int(np.argmin(norm))
                raise InvalidInput("preprocessing", f"unit-norm on input {i}, which is zero everywhere", "Use none.")
            return X * (np.sqrt(X.shape[1]) / norm)


def _near_one(X: np.ndarray, axis: int | None) -> np.ndarray:
    """Scale by powers of two, which rounds nothing, so that squares neither overflow nor underflow."""
    return np.ldexp(X, -np.frexp(np.abs(X).max(axis=axis, keepdims=True))[1])


@DATASETS.register(Digits)
def _digits(dataset: Digits) -> Raw:
    pixels, classes = _all_digits()
    cut = len(classes) * 4 // 5
    part = slice(None, cut) if dataset.split == "train" else slice(cut, None)
    return Raw(pixels[part].reshape(-1, 8, 8, 1), classes[part], tuple(range(10)), largest_pixel=16.0)


@functools.cache
def _all_digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels and classes of all images, read-only; reading them takes 10 ms, which a service does for each request."""
    from sklearn.datasets import load_digits

    pixels, classes = map(np.asarray, load_digits(return_X_y=True))
    pixels.flags.writeable = classes.flags.writeable = False
    return pixels, classes


@DATASETS.register(Boolean)
def _boolean(dataset: Boolean) -> Raw:
    numbers = np.arange(2**dataset.bits)
    bits = np.empty((len(numbers), dataset.bits), np.int8)
    for i in range(dataset.bits):
        bits[:, -1 - i] = (numbers >> i) & 1
    least = int(dataset.leave_out_zero)
    return Raw(
        bits if dataset.encoding == "bits" else 2 * bits - 1,
        bits.sum(axis=1),
        tuple(range(least, dataset.bits + 1)),
        candidates=numbers[least:],
        in_order=True,
    )


@DATASETS.register(Inline)
def _inline(dataset: Inline) -> Raw:
    return _from_arrays(plain_array(dataset.x), None if dataset.classes is None else np.array(dataset.classes))
