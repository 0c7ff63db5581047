"""The IDX format of MNIST's files (LeCun, Cortes, Burges)."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from nngp_prior.data.files import read_bytes
from nngp_prior.errors import DataUnavailable

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path) -> np.ndarray:
    """Read an array of unsigned bytes from an IDX file, compressed or not.

    Args:
        path: path of the file.

    Returns:
        the array, in the shape that the file states.

    Raises:
        DataMissing: if the file does not exist.
        DataUnavailable: if it is not readable, not IDX, or not of the length that its header states.
    """
    content = read_bytes(path)
    try:
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataUnavailable(f"{path}: cannot be read ({error}). Download it again.") from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTE:
        magic = content[:4].hex() or "nothing"
        raise DataUnavailable(
            f"{path}: starts with {magic} where an IDX file of bytes starts with 000008. Download it again."
        )
    dimensions = content[3]
    header = 4 + 4 * dimensions
    shape = struct.unpack(f">{dimensions}I", content[4:header]) if len(content) >= header else None
    expected = header if shape is None else header + math.prod(shape)
    if shape is None or len(content) != expected:
        raise DataUnavailable(
            f"{path}: has {len(content):,} bytes where its header says {expected:,}. Download it again."
        )
    try:
        return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)
    except ValueError:  # more axes than NumPy supports
        raise DataUnavailable(f"{path}: has the shape {shape}, which no array has. Download it again.") from None
