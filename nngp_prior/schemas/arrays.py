"""Conversion of user input to arrays; refuses input whose content NumPy would change silently."""

from __future__ import annotations

import numbers
import reprlib
from typing import Any

import numpy as np

_NOT_REAL = {
    "c": "complex numbers",
    "S": "text",
    "U": "text",
    "T": "text",
    "M": "dates",
    "m": "time differences",
}


def plain_array(values: Any) -> np.ndarray:
    """Convert like ``numpy.asarray``, but refuse masked arrays, whose masks ``numpy.asarray`` drops silently.

    Args:
        values: an array, or nested lists.

    Returns:
        the array, of any dtype.

    Raises:
        TypeError: if some of the values are masked.
        ValueError: if rows differ in length.
    """
    parts = values if isinstance(values, list | tuple) else (values,)
    if any(np.ma.is_masked(part) for part in parts):
        raise TypeError("some of its values are masked: fill them in, or leave these inputs out")
    if isinstance(values, list | tuple) and values and all(isinstance(part, list | tuple) for part in values):
        return np.stack([np.asarray(part) for part in values])  # lets other threads run in between
    return np.asarray(values)


def numeric_array(values: Any) -> np.ndarray:
    """Convert to an array of real numbers, in their own dtype.

    Args:
        values: an array, or nested lists.

    Returns:
        the array; float64 for Python numbers that NumPy would keep as objects.

    Raises:
        TypeError: if values are masked, complex numbers, text, dates, records or other objects, which NumPy would
            convert or take in part.
        ValueError: if rows differ in length.
    """
    array = plain_array(values)
    kind = array.dtype.kind
    if kind in _NOT_REAL:
        raise TypeError(f"it holds {_NOT_REAL[kind]}")
    if array.dtype.names is not None:
        raise TypeError("it holds records")
    if kind == "O":
        for value in array.flat:
            if not isinstance(value, numbers.Real | np.bool_):
                raise TypeError(f"it holds {reprlib.repr(value)}")
        try:
            return array.astype(np.float64)
        except OverflowError:
            raise TypeError("it holds integers too large for float64") from None
    return array
