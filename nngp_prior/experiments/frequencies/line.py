r"""Line through estimated and counted log probabilities whose errors are known.

The model is y_i = a + b x_i + s z_i + e_i with standard normal z_i, errors e_i of variance v_i, and an unknown scatter
s beyond these errors: a random-effects meta-regression (Thompson and Sharp 1999, Statistics in Medicine 18, 2693). s is
that of Paule and Mandel (1982, Journal of Research of the NBS 87, 377): the weighted sum of squared residuals is its
expectation, n - 2; 0 if that sum is smaller without scatter.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

_STEPS = 30  # bisections of the squared scatter
Vector = Float[np.ndarray, " functions"]


class Line(NamedTuple):
    """A line through the points (x, y).

    Attributes:
        slope: b.
        bias: mean of x - y.
        scatter: s.
    """

    slope: float
    bias: float
    scatter: float


def fit_line(x: Vector, y: Vector, variances: Vector) -> Line:
    """Fit the slope by weighted least squares with weights 1/(v + s²).

    Args:
        x: estimated log probabilities, nats.
        y: logarithms of frequencies, nats.
        variances: v, variances of y - x due to counting and to the estimate; not 0.

    Returns:
        the line; NaN if there are fewer than three points, or x is constant.
    """
    if len(x) < 3 or np.ptp(x) == 0:
        return Line(math.nan, math.nan, math.nan)

    def fit(square: float) -> tuple[float, float]:
        w = 1 / (variances + square)
        total = w.sum()
        dx, dy = x - w @ x / total, y - w @ y / total
        slope = float((w * dx) @ dy / ((w * dx) @ dx))
        residuals = dy - slope * dx
        excess = float((w * residuals) @ residuals) - (len(x) - 2)
        return slope, excess

    low, high = 0.0, 2 * float(np.var(y)) + 1e-12
    slope, excess = fit(low)
    if excess > 0:
        for _ in range(_STEPS):  # the sum of squares decreases in s
            middle = (low + high) / 2
            slope, excess = fit(middle)
            low, high = (middle, high) if excess > 0 else (low, middle)
    else:
        high = 0.0
    return Line(slope, float(np.mean(x - y)), math.sqrt(high))
