"""The largest problem that fits."""

from __future__ import annotations

import bisect
from collections.abc import Callable


def largest_that_fits(n: int, budget: float, needed: Callable[[int], float]) -> int:
    """Return the largest size within a budget.

    Args:
        n: largest size considered.
        budget: available amount.
        needed: amount that a size needs; increasing.

    Returns:
        the size, 0 if nothing fits.
    """
    return bisect.bisect_right(range(1, n + 1), budget, key=needed)
