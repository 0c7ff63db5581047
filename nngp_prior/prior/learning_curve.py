"""log P and PAC-Bayes bounds of the first m training labels, for several m."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Unpack

import numpy as np
from numpy.typing import ArrayLike
from typing_extensions import override

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
from nngp_prior.schemas.results.base import ESTIMATE, STATUS
from nngp_prior.schemas.results.bound import PacBayesBound, bound_columns, draw_bounds, label_sizes
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.seeds import SeedLike
from nngp_prior.schemas.specs.estimator import EP, SMC, Estimator, EstimatorOptions, more_than_two
from nngp_prior.schemas.specs.inequality import BoundName
from nngp_prior.schemas.specs.labels import check_labels_for
from nngp_prior.schemas.table import Column, Table, Tabular
from nngp_prior.schemas.text import number_of


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


class LearningCurve(Tabular, list[CurvePoint]):
    """Points of a learning curve, the smallest number of examples first; the data frame has a row for each."""

    @override
    def _summary(self) -> str:
        ends = [f"{point.bounds['realizable'].value:.4f} (m = {point.m:,})" for point in (self[:1] + self[1:][-1:])]
        return f"{number_of(len(self), 'point')}: realizable bound {' … '.join(ends)}"

    @override
    def _table(self) -> Table:
        m = Column("m", lambda point: point.m, "int64", "m")
        log_p = [each._replace(value=_of_estimate(each)) for each in ESTIMATE]
        bounds = bound_columns(name for point in self for name in point.bounds)
        return Table([m, *log_p, *bounds, *(each._replace(value=_of_estimate(each)) for each in STATUS)], self)

    @override
    def _draw(self, ax: Any) -> None:
        draw_bounds(ax, [point.m for point in self], [point.bounds for point in self], join=True)
        ax.set_ylabel("bound on the error")
        label_sizes(ax, [point.m for point in self])


def _of_estimate(column: Column) -> Callable[[CurvePoint], Any]:
    return lambda point: column.value(point.estimate)


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
