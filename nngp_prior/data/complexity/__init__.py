"""Complexity measures of labellings; each is a function of the labels in :data:`COMPLEXITIES`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike

from nngp_prior.data.complexity.critical_samples import critical_sample_ratio, critical_sample_ratio_in_box
from nngp_prior.data.complexity.expressions import cover_size
from nngp_prior.data.complexity.formulas import formula_size
from nngp_prior.data.complexity.sequences import entropy, lempel_ziv
from nngp_prior.errors import InvalidInput

__all__ = [
    "COMPLEXITIES",
    "complexity",
    "cover_size",
    "critical_sample_ratio",
    "critical_sample_ratio_in_box",
    "entropy",
    "formula_size",
    "lempel_ziv",
]

COMPLEXITIES: dict[str, Callable[..., float]] = {
    "lempel-ziv": lempel_ziv,
    "entropy": entropy,
    "critical-sample-ratio": critical_sample_ratio,
    "critical-sample-ratio-in-box": critical_sample_ratio_in_box,
    "formula-size": formula_size,
    "cover-size": cover_size,
}


def complexity(name: str, y: ArrayLike, **options: Any) -> float:
    """Compute the complexity of a labelling by a named measure.

    Args:
        name: ``lempel-ziv``, ``entropy``, ``critical-sample-ratio``, ``critical-sample-ratio-in-box``,
            ``formula-size`` (exact, up to four bits) or ``cover-size`` (an upper bound on it).
        y: (n,) integers -1/+1 or booleans.
        **options: options of the measure's function.

    Returns:
        its value.

    Raises:
        InvalidInput: if the name is unknown, or labels or options are invalid.
    """
    if name not in COMPLEXITIES:
        raise InvalidInput("name", f"got {name!r}", f"Choose one of {', '.join(COMPLEXITIES)}.")
    return COMPLEXITIES[name](y, **options)


def __dir__() -> list[str]:
    return sorted(__all__)
