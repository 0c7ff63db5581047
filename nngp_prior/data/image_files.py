"""MNIST, Fashion-MNIST and CIFAR-10 from files in folders under ``NNGP_DATA``.

A folder has the original files, or for each split one ``.npz`` file whose name contains the split, or Keras' file
of both. Folders created by torchvision are found too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from nngp_prior.data.files import read_bytes
from nngp_prior.data.idx import read_idx
from nngp_prior.data.npy import npz_names, read_npz
from nngp_prior.data.raw import DATASETS, Raw
from nngp_prior.errors import DataMissing, DataUnavailable
from nngp_prior.schemas.specs.data import Cifar10, FashionMnist, Mnist
from nngp_prior.settings import Settings

_CLASSES = 10
_LISTED = 3  # archives named in an error
_LARGEST_PIXEL = 255
_MNIST_SHAPE = (28, 28, 1)
_CIFAR_SHAPE = (32, 32, 3)
_PLANES = (3, 32, 32)  # the order of pixels in CIFAR-10's own files: all red ones first
_RECORD = 1 + 3 * 32 * 32  # a label, then the pixels
_BATCH = 10_000  # records per file
_IDX_PARTS = (("images", "idx3"), ("labels", "idx1"))
# Folders created by torchvision and the original archives, under NNGP_DATA or under the data set's own folder there.
_INNER_FOLDERS = {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw", "cifar10": "cifar-10-batches-bin"}


@DATASETS.register(Mnist)
@DATASETS.register(FashionMnist)
def _mnist(dataset: Mnist | FashionMnist) -> Raw:
    prefix = {"train": "train", "test": "t10k"}[dataset.split]
    names = [
        [f"{prefix}-{part}{dot}{kind}-ubyte{end}" for dot in "-." for end in (".gz", "")] for part, kind in _IDX_PARTS
    ]
    folder = _folder(dataset, [*names[0], *names[1]])
    originals = [_first_file(*(folder / name for name in of_part)) for of_part in names]
    if not any(path.is_file() for path in originals):
        images_path, labels_path = _archive(dataset, folder, originals[0])
        images, classes = _read_archive(images_path, labels_path, dataset.split, _MNIST_SHAPE)
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
    folder = _folder(dataset, names)
    originals = [folder / name for name in names]
    if not any(path.is_file() for path in originals):
        path, labels_path = _archive(dataset, folder, originals[0])
        images, classes = _read_archive(path, labels_path, dataset.split, _CIFAR_SHAPE)
        if images.shape[1:] == (3072,):
            images = _from_planes(images)
    else:
        batches = [_read_batch(_existing(path, folder)) for path in originals]
        images, classes = (np.concatenate(part) for part in zip(*batches, strict=True))
        path = labels_path = originals[0]
    if images.shape[1:] != _CIFAR_SHAPE:
        raise DataUnavailable(
            f"{path}: images have shape {images.shape} where (n, 32, 32, 3) or (n, 3072) was expected. Save them so."
        )
    return _raw(images, classes, path, labels_path)


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
    """Check that images and labels fit each other."""
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
        raise DataUnavailable(
            f"{path}: has a label {outside[0]}, which is not among 0 … 9. Download it again; files of other data sets, "
            "as EMNIST's letters with labels 1 … 26, are read as --inputs-file and --labels-file."
        )


def _folder(dataset: Mnist | FashionMnist | Cifar10, names: Sequence[str]) -> Path:
    """Return the folder of a data set: the first that has files of these names, or else the default one."""
    root = Settings().data
    if root is None:
        raise DataMissing(
            f"{dataset.kind}: NNGP_DATA is not set. Set it to a folder that has {dataset.kind}/ with the files."
        )
    own, inner = root / dataset.kind, _INNER_FOLDERS[dataset.kind]
    folders = (own, own / "raw", own / inner, root / inner)
    return next((folder for folder in folders if any((folder / name).is_file() for name in names)), own)


def _first_file(*candidates: Path) -> Path:
    """Return the first path that exists, or else the one to name in an error."""
    return next((path for path in candidates if path.is_file()), candidates[0])


def _existing(path: Path, folder: Path) -> Path:
    """Return the path, or raise an error if it is missing while other files of its set exist."""
    if not path.is_file():
        raise DataUnavailable(f"{path}: no such file, while others of its set are there. Put it into {folder}.")
    return path


def _archive(dataset: Mnist | FashionMnist | Cifar10, folder: Path, original: Path) -> tuple[Path, Path]:
    """Return the ``.npz`` files of a split's images and labels, often the same; or Keras' file of both splits."""
    other = {"train": "test", "test": "train"}[dataset.split]
    found = [
        path
        for path in sorted(folder.glob("*.npz"))
        if dataset.split in path.name.lower() and other not in path.name.lower()
    ]
    accepted = f"one .npz file (keys images and labels) with {dataset.split}, and not {other}, in its name"
    if not found:
        found = [path for path in sorted(folder.glob("*.npz")) if f"x_{dataset.split}" in npz_names(path)]
    pickles = [
        path for each in (folder, *folder.parent.glob("cifar-10-batches-py")) for path in each.glob("data_batch_1")
    ]
    if not found and dataset.kind == "cifar10" and pickles:
        raise DataUnavailable(
            f"{pickles[0]}: is of the Python version of CIFAR-10, pickles, which can run any program and are not read. "
            f"Put the files of the binary version (cifar-10-binary.tar.gz) into {folder}, or {accepted}: docs/data.md."
        )
    if not found:
        archives = sorted(folder.glob("*.npz"))
        others = "".join(f" {path.name} there has {', '.join(sorted(npz_names(path)))}." for path in archives[:_LISTED])
        raise DataMissing(
            f"{original}: no such file.{others} Put the original files into {folder}, or {accepted}. "
            f"NNGP_DATA is {folder.parent}."
        )
    if len(found) == 2 and ["labels" in path.name.lower() for path in found] == [False, True]:
        return found[0], found[1]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataUnavailable(f"{folder}: has {names} where there may be {accepted}. Remove all but one.")
    return found[0], found[0]


def _read_archive(
    images_path: Path, labels_path: Path, split: str, shape: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    images = _read_part(images_path, "images", f"x_{split}", images_path != labels_path)
    classes = _read_part(labels_path, "labels", f"y_{split}", images_path != labels_path)
    path, classes = images_path, classes[:, 0] if classes.ndim == 2 and classes.shape[1] == 1 else classes
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


def _read_part(path: Path, name: str, of_keras: str, alone: bool) -> np.ndarray:
    """Return the images or the labels, by the name of their array, or the only array of a separate file."""
    names = npz_names(path)
    accepted = [each for each in (name, of_keras) if each in names] or (names if alone and len(names) == 1 else [])
    if not accepted:
        listed = ", ".join(sorted(names)) or "none"
        raise DataUnavailable(
            f"{path}: has no array {name} (it has {listed}). Save it with the keys images and labels."
        )
    array = read_npz(path, accepted[0])[accepted[0]]
    if array.dtype.kind not in "iu":
        raise DataUnavailable(f"{path}: {name} are {array.dtype} and no integers. Save them as uint8.")
    return array
