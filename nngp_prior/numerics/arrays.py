"""Arrays from what users pass."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike


def real_array(values: ArrayLike) -> Float[np.ndarray, "*shape"]:
    """Real numbers as float64, without a copy where they are that already.

    Args:
        values: anything that NumPy can make a numeric array of.

    Returns:
        the array.

    Raises:
        TypeError: complex numbers, whose imaginary part NumPy would drop with no more than a warning, or no numbers.
        ValueError: no numbers, or rows of different length.
    """
    array = np.asarray(values)
    if np.iscomplexobj(array):
        raise TypeError("its numbers are complex")
    return array.astype(np.float64, copy=False)
