"""MNIST, Fashion-MNIST and CIFAR-10 from files in folders under ``NNGP_DATA``.

A folder has the original files, or for each split one ``.npz`` file whose name says which split it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from nngp_prior.data.files import read_bytes
from nngp_prior.data.idx import read_idx
from nngp_prior.data.npy import read_npz
from nngp_prior.data.raw import DATASETS, Raw
from nngp_prior.errors import DataMissing, DataUnavailable
from nngp_prior.schemas.data import Cifar10, FashionMnist, Mnist
from nngp_prior.settings import Settings

_CLASSES = 10
_LARGEST_PIXEL = 255
_MNIST_SHAPE = (28, 28, 1)
_CIFAR_SHAPE = (32, 32, 3)
_PLANES = (3, 32, 32)  # the order of pixels in CIFAR-10's own files: all red ones first
_RECORD = 1 + 3 * 32 * 32  # a label, then the pixels
_BATCH = 10_000  # records of a file


@DATASETS.register(Mnist)
@DATASETS.register(FashionMnist)
def _mnist(dataset: Mnist | FashionMnist) -> Raw:
    prefix = {"train": "train", "test": "t10k"}[dataset.split]
    names = [f"{prefix}-{content}-ubyte" for content in ("images-idx3", "labels-idx1")]
    folder = _folder(dataset)
    originals = [_first_file(folder / f"{name}.gz", folder / name) for name in names]
    if not any(path.is_file() for path in originals):
        images_path = labels_path = _archive(dataset, folder, originals[0])
        images, classes = _read_archive(images_path, _MNIST_SHAPE)
    else:
        images_path, labels_path = (_existing(path, folder) for path in originals)
        images, classes = read_idx(images_path), read_idx(labels_path)
    if images.shape[1:] not in (_MNIST_SHAPE[:2], _MNIST_SHAPE, (784,)):
        raise DataUnavailable(
            f"{images_path}: has shape {images.shape} where (n, 28, 28) was expected. Use the files of {dataset.kind}."
        )
    return _raw(images.reshape(-1, *_MNIST_SHAPE), classes, images_path, labels_path)


@DATASETS.register(Cifar10)
def _cifar10(dataset: Cifar10) -> Raw:
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] if dataset.split == "train" else ["test_batch.bin"]
    folder = _folder(dataset)
    originals = [folder / name for name in names]
    if not any(path.is_file() for path in originals):
        path = _archive(dataset, folder, originals[0])
        images, classes = _read_archive(path, _CIFAR_SHAPE)
        if images.shape[1:] == (3072,):
            images = _from_planes(images)
    else:
        batches = [_read_batch(_existing(path, folder)) for path in originals]
        images, classes = (np.concatenate(part) for part in zip(*batches, strict=True))
        path = originals[0]
    if images.shape[1:] != _CIFAR_SHAPE:
        raise DataUnavailable(
            f"{path}: images have shape {images.shape} where (n, 32, 32, 3) or (n, 3072) was expected. Save them so."
        )
    return _raw(images, classes, path, path)


def _read_batch(path: Path) -> tuple[UInt8[np.ndarray, "n 32 32 3"], UInt8[np.ndarray, " n"]]:
    content = read_bytes(path)
    if len(content) != _BATCH * _RECORD:
        raise DataUnavailable(
            f"{path}: has {len(content):,} bytes where {_BATCH:,} records of {_RECORD:,} make {_BATCH * _RECORD:,}. "
            "Download it again (the binary version)."
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(_BATCH, _RECORD)
    classes = records[:, 0]
    _check_labels(classes, path)
    return _from_planes(records[:, 1:]), classes


def _from_planes(pixels: np.ndarray) -> np.ndarray:
    return pixels.reshape(-1, *_PLANES).transpose(0, 2, 3, 1)


def _raw(images: np.ndarray, classes: np.ndarray, images_path: Path, labels_path: Path) -> Raw:
    """Images and labels that fit each other."""
    if classes.shape != images.shape[:1]:
        raise DataUnavailable(
            f"{labels_path}: labels have shape {classes.shape} where {images_path.name} has {len(images):,} images. "
            "Put the files of one download there."
        )
    if len(images) == 0:
        raise DataUnavailable(f"{images_path}: has no images. Download it again.")
    _check_labels(classes, labels_path)
    return Raw(images, classes, tuple(range(_CLASSES)), float(_LARGEST_PIXEL))


def _check_labels(classes: np.ndarray, path: Path) -> None:
    outside = classes[(classes < 0) | (classes >= _CLASSES)]
    if outside.size:
        raise DataUnavailable(f"{path}: has a label {outside[0]}, which is not among 0 … 9. Download it again.")


def _folder(dataset: Mnist | FashionMnist | Cifar10) -> Path:
    root = Settings().data
    if root is None:
        raise DataMissing(
            f"{dataset.kind}: NNGP_DATA is not set. Set it to a folder that has {dataset.kind}/ with the files."
        )
    return root / dataset.kind


def _first_file(*candidates: Path) -> Path:
    """The one that there is, or else the one to ask for."""
    return next((path for path in candidates if path.is_file()), candidates[0])


def _existing(path: Path, folder: Path) -> Path:
    """Of files that belong together, some are there: then all have to be."""
    if not path.is_file():
        raise DataUnavailable(f"{path}: no such file, while others of its set are there. Put it into {folder}.")
    return path


def _archive(dataset: Mnist | FashionMnist | Cifar10, folder: Path, original: Path) -> Path:
    """The one ``.npz`` file of a split, by its name."""
    other = {"train": "test", "test": "train"}[dataset.split]
    found = [
        path
        for path in sorted(folder.glob("*.npz"))
        if dataset.split in path.name.lower() and other not in path.name.lower()
    ]
    accepted = f"one .npz file (keys images and labels) with {dataset.split}, and not {other}, in its name"
    if not found:
        raise DataMissing(
            f"{original}: no such file. Put the original files into {folder}, or {accepted}. "
            f"NNGP_DATA is {folder.parent}."
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataUnavailable(f"{folder}: has {names} where there may be {accepted}. Remove all but one.")
    return found[0]


def _read_archive(path: Path, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    arrays = read_npz(path, "images", "labels")
    for name in ("images", "labels"):
        if name not in arrays:
            raise DataUnavailable(f"{path}: has no array {name}. Save it with the keys images and labels.")
        if arrays[name].dtype.kind not in "iu":
            raise DataUnavailable(f"{path}: {name} are {arrays[name].dtype} and no integers. Save them as uint8.")
    images, classes = arrays["images"], arrays["labels"]
    if images.ndim < 2:
        expected = ", ".join(map(str, ("n", *shape)))
        raise DataUnavailable(
            f"{path}: images have shape {images.shape} where ({expected}) was expected. Save them so."
        )
    if images.size and not 0 <= images.min() <= images.max() <= _LARGEST_PIXEL:
        raise DataUnavailable(
            f"{path}: has pixels from {images.min()} to {images.max()}, outside 0 … {_LARGEST_PIXEL}. "
            "Save them as they are in the original files."
        )
    return images, classes
