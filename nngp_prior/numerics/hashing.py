"""Hashes of arrays."""

from __future__ import annotations

import hashlib

import numpy as np


def digest(*arrays: np.ndarray) -> str:
    """Return the SHA-256 of arrays, in hexadecimal.

    Args:
        *arrays: any number of arrays, whose dtypes and shapes are part of the content.

    Returns:
        the hash.
    """
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype} {array.shape}\0".encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
