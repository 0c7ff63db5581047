"""Conversion of labels for the complexity measures."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from numpy.typing import ArrayLike

from nngp_prior.errors import InvalidLabels
from nngp_prior.schemas.specs.labels import check_labels, label_array


def as_bits(y: ArrayLike) -> Bool[np.ndarray, " n"]:
    """Convert labels to booleans, True for +1.

    Args:
        y: (n,) integers -1/+1 or booleans.

    Returns:
        a new array.

    Raises:
        InvalidLabels: if the labels are empty, not one-dimensional, or have other values.
    """
    given = label_array(y)
    if given.ndim != 1 or given.size == 0:
        raise InvalidLabels("y", f"has shape {given.shape}", "Pass one row of at least one label.")
    return check_labels(given, len(given)) > 0


def as_function(y: ArrayLike, most_bits: int) -> tuple[Bool[np.ndarray, " N"], int]:
    """Convert labels of all inputs of a Boolean function to its values.

    Args:
        y: (2ᵇ,) labels, in the order 0 … 2ᵇ-1, most significant bit first.
        most_bits: the largest b.

    Returns:
        the values, and b.

    Raises:
        InvalidLabels: if the number of labels differs.
    """
    values = as_bits(y)
    bits = len(values).bit_length() - 1
    if len(values) != 2**bits or not 1 <= bits <= most_bits:
        raise InvalidLabels(
            "y", f"has {len(values):,} labels", f"Pass one for each of the 2ᵇ inputs, b from 1 to {most_bits}."
        )
    return values, bits
