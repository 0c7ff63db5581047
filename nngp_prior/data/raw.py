"""What a data set's loader hands over, and the registry of loaders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nngp_prior.registry import Registry


class Raw(NamedTuple):
    """All inputs of a data set (of one split), before the draw and the preprocessing.

    Attributes:
        images: (n, height, width, channels), or (n, d) where inputs are no images.
        classes: (n,) integers.
        known_classes: those that there are, in order; none where inputs have no classes.
        largest_pixel: the largest possible one; 1 where inputs are no images.
        candidates: positions to draw from; all when absent.
        in_order: without a number of inputs to draw, keep the order.
    """

    images: np.ndarray
    classes: np.ndarray
    known_classes: tuple[int, ...]
    largest_pixel: float = 1.0
    candidates: np.ndarray | None = None
    in_order: bool = False


DATASETS: Registry[Callable[[Any], Raw]] = Registry()
