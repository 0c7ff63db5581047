"""Image files, whole: IDX, CIFAR-10's batches, archives."""

import gzip
import struct
from pathlib import Path

import numpy as np


def idx_bytes(array: np.ndarray) -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 0x08, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_image_data(folder: Path, kind: str, images: np.ndarray, labels: np.ndarray) -> Path:
    """The training files of an image data set, one compressed and one not; returns the path of the labels."""
    (folder / kind).mkdir(parents=True)
    (folder / kind / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
    labels_path = folder / kind / "train-labels-idx1-ubyte"
    labels_path.write_bytes(idx_bytes(labels))
    return labels_path


def cifar_batch(images: np.ndarray, labels: np.ndarray) -> bytes:
    """Records of a label and the red, the green, and the blue pixels, row by row, written out one by one."""
    records = []
    for image, label in zip(images, labels, strict=True):
        planes = [bytes(int(value) for value in image[:, :, channel].ravel()) for channel in range(3)]
        records.append(bytes([label]) + b"".join(planes))
    return b"".join(records)


def write_archive(path: Path, **arrays: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)  # pyright: ignore[reportArgumentType]
    return path
