"""Data sets: a subset, preprocessed as specified."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from nngp_prior.data.idx import read_idx
from nngp_prior.errors import DataUnavailable, InvalidInput
from nngp_prior.registry import Registry
from nngp_prior.schemas.data import Dataset, Digits, FashionMnist, Mnist
from nngp_prior.settings import Settings


class Data(NamedTuple):
    """Inputs and their classes.

    Attributes:
        X: one flattened image a row.
        classes: integers.
        place: the position of each image in the split.
    """

    X: Float[np.ndarray, "n d"]
    classes: Integer[np.ndarray, " n"]
    place: Integer[np.ndarray, " n"]


class _Raw(NamedTuple):
    images: np.ndarray
    classes: np.ndarray
    largest_pixel: float


DATASETS: Registry[Callable[[Any], _Raw]] = Registry()


def load(dataset: Dataset) -> Data:
    """Load a data set.

    Args:
        dataset: its specification.

    Returns:
        images, preprocessed, in the order in which they were drawn.

    Raises:
        InvalidInput: more images are asked for than the split has.
    """
    raw = DATASETS[dataset](dataset)
    available = len(raw.images)
    n = available if dataset.n is None else dataset.n
    if n > available:
        raise InvalidInput(
            "n", f"{n:,} images where {dataset.kind} ({dataset.split}) has {available:,}", f"Use at most {available:,}."
        )
    place = np.random.default_rng(dataset.seed).permutation(available)[:n]
    images = raw.images[place].reshape(n, -1).astype(np.float64)
    return Data(
        _preprocess(images, raw.largest_pixel, dataset.preprocessing), raw.classes[place].astype(np.int64), place
    )


def _preprocess(images: np.ndarray, largest_pixel: float, preprocessing: str) -> np.ndarray:
    match preprocessing:
        case "none":
            return images
        case "unit-interval":
            return images / largest_pixel
        case "standardise":
            spread = images.std()
            if spread == 0:
                raise InvalidInput("preprocessing", "standardise on images that are all alike", "Use none.")
            return (images - images.mean()) / spread
        case _:
            norm = np.linalg.norm(images, axis=1, keepdims=True)
            if not norm.all():
                i = int(np.argmin(norm))
                raise InvalidInput("preprocessing", f"unit-norm on image {i}, which is black", "Use unit-interval.")
            return images * (np.sqrt(images.shape[1]) / norm)


@DATASETS.register(Digits)
def _digits(dataset: Digits) -> _Raw:
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    cut = len(classes) * 4 // 5
    part = slice(None, cut) if dataset.split == "train" else slice(cut, None)
    return _Raw(pixels[part], classes[part], 16.0)


@DATASETS.register(Mnist)
@DATASETS.register(FashionMnist)
def _idx_images(dataset: Mnist | FashionMnist) -> _Raw:
    root = Settings().data
    if root is None:
        raise DataUnavailable(
            f"{dataset.kind}: NNGP_DATA is not set. Set it to a folder that has {dataset.kind}/ with the IDX files."
        )
    prefix = {"train": "train", "test": "t10k"}[dataset.split]
    folder = root / dataset.kind
    images_path = _find(folder, f"{prefix}-images-idx3-ubyte")
    labels_path = _find(folder, f"{prefix}-labels-idx1-ubyte")
    images, classes = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or classes.shape != images.shape[:1]:
        raise DataUnavailable(
            f"{labels_path}: has shape {classes.shape} where {images_path.name} has {images.shape}. "
            "Put the two files of one download there."
        )
    if classes.max(initial=0) > 9:
        raise DataUnavailable(f"{labels_path}: has a label {classes.max()} above 9. Download it again.")
    return _Raw(images, classes, 255.0)


def _find(folder: Path, name: str) -> Path:
    for candidate in (folder / f"{name}.gz", folder / name):
        if candidate.is_file():
            return candidate
    raise DataUnavailable(
        f"{folder / name}.gz: no such file. NNGP_DATA is {folder.parent}; put the IDX files into {folder.name}/ there."
    )
