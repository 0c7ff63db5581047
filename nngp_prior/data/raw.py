"""Output of data set loaders, and their registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nngp_prior.registry import Registry


class Raw(NamedTuple):
    """All inputs of a data set (of one split), before the draw and the preprocessing.

    Attributes:
        images: (n, height, width, channels), or (n, d) if inputs are not images.
        classes: (n,) integers.
        known_classes: all classes, in order; empty if inputs have no classes.
        largest_pixel: largest possible pixel value; 1 if inputs are not images.
        candidates: indices to draw from; None for all.
        in_order: True to keep the order if no number of inputs to draw is given.
    """

    images: np.ndarray
    classes: np.ndarray
    known_classes: tuple[int, ...]
    largest_pixel: float = 1.0
    candidates: np.ndarray | None = None
    in_order: bool = False


DATASETS: Registry[Callable[[Any], Raw]] = Registry()
