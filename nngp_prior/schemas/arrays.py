"""Arrays from what users pass, refused where NumPy would silently change their content."""

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
    """As ``numpy.asarray``, which drops masks without a word.

    Args:
        values: an array, or nested lists.

    Returns:
        the array, of any type.

    Raises:
        TypeError: some of the values are masked.
        ValueError: rows of different length.
    """
    parts = values if isinstance(values, list | tuple) else (values,)
    if any(np.ma.is_masked(part) for part in parts):
        raise TypeError("some of its values are masked: fill them in, or leave these inputs out")
    if isinstance(values, list | tuple) and values and all(isinstance(part, list | tuple) for part in values):
        return np.stack([np.asarray(part) for part in values])  # other threads run between two of them
    return np.asarray(values)


def numeric_array(values: Any) -> np.ndarray:
    """An array of real numbers, of the type that they have.

    Args:
        values: an array, or nested lists.

    Returns:
        the array; numbers of Python that NumPy keeps as objects are float64.

    Raises:
        TypeError: masked values, complex numbers, text, dates, records or other objects, which NumPy would convert, or
            take a part of.
        ValueError: rows of different length.
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
