"""The largest problem that fits."""

from __future__ import annotations

import bisect
from collections.abc import Callable


def largest_that_fits(n: int, budget: float, needed: Callable[[int], float]) -> int:
    """The largest size that takes no more than there is.

    Args:
        n: sizes up to this one are looked at.
        budget: what there is.
        needed: what a size takes; it grows with the size.

    Returns:
        0 where nothing fits.
    """
    return bisect.bisect_right(range(1, n + 1), budget, key=needed)
