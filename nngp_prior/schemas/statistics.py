"""Standard errors, and quantiles of Student's distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from nngp_prior.errors import InvalidInput

# SciPy is imported on use: clients read results without it.


def mean_with_error(values: Sequence[float] | Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Return the mean of independent values, and its standard error.

    Args:
        values: one or more values, which may be infinite.

    Returns:
        mean and standard error; the error of a single value is infinite.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.inf
        return float(np.mean(values)), deviation / math.sqrt(len(values))


def jackknife(left_out: Float[np.ndarray, "*shape n"]) -> Float[np.ndarray, "*shape"]:
    """Return standard errors from the leave-one-out values of an estimate, along the last axis."""
    count = left_out.shape[-1]
    deviations = left_out - left_out.mean(axis=-1, keepdims=True)
    return np.asarray(np.sqrt((count - 1) / count * np.square(deviations).sum(axis=-1)))


def student_quantile(freedom: int, level: float) -> float:
    """Return half the width of a confidence interval, in standard errors.

    Args:
        freedom: degrees of freedom of Student's distribution.
        level: coverage of the interval.

    Returns:
        the quantile of order (1 + level)/2.

    Raises:
        InvalidInput: if the level is not strictly between 0 and 1.
    """
    from scipy.special import stdtrit

    require_probability("level", level)
    return float(stdtrit(freedom, (1 + level) / 2))


def require_probability(name: str, value: float) -> None:
    """Refuse numbers that are not strictly between 0 and 1.

    Args:
        name: name of the argument, for messages.
        value: its value.

    Raises:
        InvalidInput: if the number is not strictly between 0 and 1.
    """
    if not 0 < value < 1:
        raise InvalidInput(name, f"got {value}", "Choose a probability between 0 and 1.")
