"""Grid of σ_w and σ_b from which an architecture's are chosen; does not load JAX."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

Interval = tuple[float, float]
_PER_DECADE = 50  # grid points of σ_w and of σ_b: steps of 4.7 %


def grid(interval: Interval) -> Float[np.ndarray, " values"]:
    """Return the values that can be chosen: four digits, evenly spaced in the logarithm.

    Args:
        interval: the smallest and the largest value.

    Returns:
        the values, ascending.
    """
    low, high = (math.log10(end) for end in interval)
    exponents = np.linspace(low, high, round((high - low) * _PER_DECADE) + 1)
    return np.array([float(f"{value:.4g}") for value in 10**exponents])


def number_of_choices(members: int, box: Sequence[Interval]) -> int:
    """Return the number of values that a choice can have.

    Args:
        members: number of architectures.
        box: intervals of σ_w and σ_b.

    Returns:
        number of architectures times number of points of the grid.
    """
    return members * math.prod(len(grid(interval)) for interval in box)
