"""Conversion of user input to arrays."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from nngp_prior.schemas.arrays import numeric_array


def real_array(values: ArrayLike) -> Float[np.ndarray, "*shape"]:
    """Convert real numbers to float64, without a copy if they are float64 already.

    Args:
        values: real numbers, in any form that NumPy converts to an array.

    Returns:
        the array.

    Raises:
        TypeError: if the values are not real numbers, see :func:`nngp_prior.schemas.arrays.numeric_array`.
        ValueError: if rows differ in length.
    """
    return numeric_array(values).astype(np.float64, copy=False)
