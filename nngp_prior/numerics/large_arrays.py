"""Block-wise operations on arrays larger than the available memory."""

from __future__ import annotations

import math
import mmap

import numpy as np

_BLOCK = 2**20  # numbers processed at a time


def first_not_finite(array: np.ndarray) -> int | None:
    """Find an infinity or NaN.

    Args:
        array: (n, …) numbers, perhaps a map of a file.

    Returns:
        the first index along the first axis with such a number; None if there is none.
    """
    if array.dtype.kind != "f" or array.size == 0:
        return None
    if not any(array.strides):  # a single number broadcast to the shape
        return None if np.isfinite(array.flat[0]) else 0
    together = max(1, _BLOCK // max(math.prod(array.shape[1:]), 1))
    for start in range(0, len(array), together):
        part = array[start : start + together]
        if part.size > _BLOCK and part.ndim > 1:  # a single large row
            wrong = [] if first_not_finite(part[0]) is None else [0]
        else:
            wrong = np.flatnonzero(~np.isfinite(part).reshape(len(part), -1).all(axis=1))
        if len(wrong):
            return start + int(wrong[0])
        release(array)
    return None


def release(array: np.ndarray) -> None:
    """Release the pages of a mapped file from this process's memory until the next access.

    Args:
        array: a view of a map, or any other array.
    """
    mapped = getattr(array, "_mmap", None)
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
