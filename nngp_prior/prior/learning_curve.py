"""log P and PAC-Bayes bounds of the first m training labels, for several m."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Unpack

import numpy as np
from numpy.typing import ArrayLike

from nngp_prior.errors import InvalidInput
from nngp_prior.prior.pac_bayes import pac_bayes_bounds
from nngp_prior.probability import (
    Start,
    compute,
    estimator_of,
    memory_needed,
    prepare,
    require_memory,
    seconds_needed,
)
from nngp_prior.probability.checks import as_matrix
from nngp_prior.progress import Progress, ProgressOption, shown
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.results.bound import PacBayesBound
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.seeds import SeedLike
from nngp_prior.schemas.specs.estimator import EP, SMC, Estimator, EstimatorOptions, more_than_two
from nngp_prior.schemas.specs.inequality import BoundName
from nngp_prior.schemas.specs.labels import check_labels_for
from nngp_prior.schemas.text import html_table, number_of


class CurvePoint(NamedTuple):
    """Results for the first m examples.

    Attributes:
        m: number of examples.
        estimate: estimate of log P of their labels.
        bounds: by name, from :func:`nngp_prior.pac_bayes_bounds`.
    """

    m: int
    estimate: Estimate
    bounds: dict[BoundName, PacBayesBound]

    def __repr__(self) -> str:
        return (
            f"<m = {self.m:,}: {self.estimate}, {self.bounds['realizable'].name} {self.bounds['realizable'].value:.4f}>"
        )


class LearningCurve(list[CurvePoint]):
    """Points of a learning curve, the smallest number of examples first."""

    def __repr__(self) -> str:
        ends = [f"{point.bounds['realizable'].value:.4f} (m = {point.m:,})" for point in (self[:1] + self[1:][-1:])]
        return f"<LearningCurve {number_of(len(self), 'point')}: realizable bound {' … '.join(ends)}>"

    def _repr_html_(self) -> str:
        names = list(self[0].bounds) if self else []
        rows = [
            (f"{point.m:,}", point.estimate, *(f"{point.bounds[name].value:.4f}" for name in names)) for point in self
        ]
        return html_table(("m", "log P", *names), rows)


def learning_curve(
    K: ArrayLike,
    y: ArrayLike,
    sizes: Sequence[int],
    *,
    delta: float = 0.05,
    gamma: float = 0.05,
    estimator_share: float = 0.1,
    method: str | Estimator = "smc",
    seed: SeedLike = 0,
    progress: ProgressOption = None,
    **options: Unpack[EstimatorOptions],
) -> LearningCurve:
    """Compute log P of the first m labels, and the resulting bounds, for each m of ``sizes``.

    The examples must be in random order, since the first m of them are taken for m independent draws. With two classes
    EP starts at its final sites for the previous m. Each bound holds with its own probability; for all m at once divide
    ``delta`` by their number.

    Args:
        K: (n, n) covariance matrix of all examples; its leading blocks are used.
        y: (n,) integers -1/+1 or booleans; with ``classes=C``, integers 0 … C-1.
        sizes: values of m, from 1 to n.
        delta: as for :func:`nngp_prior.pac_bayes_bounds`.
        gamma: as for :func:`nngp_prior.pac_bayes_bounds`.
        estimator_share: as for :func:`nngp_prior.pac_bayes_bounds`.
        method: as for :func:`nngp_prior.log_probability`.
        seed: as for :func:`nngp_prior.log_probability`.
        progress: True to show progress, or a callback, called with the expected cost and after each m.
        **options: as for :func:`nngp_prior.log_probability`.

    Returns:
        a point for each distinct m, the smallest first.

    Raises:
        InvalidInput: if K, y, a size or an option is invalid.
    """
    estimator = estimator_of(method, **options)
    K = as_matrix(K)
    y = check_labels_for(estimator, y, len(K))
    for m in sizes:
        if isinstance(m, bool) or not isinstance(m, int | np.integer) or not 1 <= m <= len(y):
            raise InvalidInput("sizes", f"got {m!r}", f"Pass integers from 1 to the number of inputs, {len(y):,}.")
    if not len(sizes):
        raise InvalidInput("sizes", "is empty", "Pass at least one number of examples.")
    ordered = sorted({int(m) for m in sizes})
    require_memory(ordered[-1], estimator)
    starts: list[Start] = []
    keep = starts.append if isinstance(estimator, EP | SMC) and not more_than_two(estimator) else None
    points = LearningCurve()
    seconds = sum(seconds_needed(m, estimator) for m in ordered)
    with shown(progress, "bounds", rows=True) as tell:
        tell(Progress("sizes", 0, len(ordered), Cost(memory_needed(ordered[-1], estimator), seconds)))
        for done, m in enumerate(ordered, start=1):
            kernel = prepare(K[:m, :m], estimator)
            start = starts[-1] if starts else None
            estimate = compute(kernel, y[:m], estimator, seed, None, start, keep)
            bounds = pac_bayes_bounds(estimate, delta, gamma=gamma, estimator_share=estimator_share)
            points.append(CurvePoint(m, estimate, bounds))
            tell(Progress("sizes", done, len(ordered)))
    return points
