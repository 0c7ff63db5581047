"""Arrays from what users pass."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from nngp_prior.schemas.arrays import numeric_array


def real_array(values: ArrayLike) -> Float[np.ndarray, "*shape"]:
    """Real numbers as float64, without a copy where they are that already.

    Args:
        values: real numbers, in whatever NumPy makes an array of.

    Returns:
        the array.

    Raises:
        TypeError: something else, see :func:`nngp_prior.schemas.arrays.numeric_array`.
        ValueError: rows of different length.
    """
    return numeric_array(values).astype(np.float64, copy=False)
