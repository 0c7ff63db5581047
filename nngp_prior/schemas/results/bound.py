"""PAC-Bayes bounds, their JSON format, and their readers in clients."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from typing_extensions import override

from nngp_prior import style
from nngp_prior.schemas import titles
from nngp_prior.schemas.base import Specification
from nngp_prior.schemas.results.base import (
    LABELLING,
    LOG_P,
    STATUS,
    Result,
    Results,
    finite,
    label_axes,
    row_of,
    set_title,
)
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.specs.inequality import BoundName
from nngp_prior.schemas.table import Column, Table

_TICKS = 8


class PacBayesBound(Specification):
    """An upper bound on a generalization error, with its conditions and parameters.

    Attributes:
        name: name of the inequality.
        value: upper bound on the error; 1 if nothing is known.
        bounds: error that is bounded.
        is_bound: False if log P is an estimate without a rigorous lower bound (such as EP's): ``value`` is then what
            the inequality would give, and is not a bound.
        conditions: conditions for it to be a bound.
        reference: paper, and number of the equation or theorem.
        m: number of training examples.
        log_p: value used for log P(S), nats: the rigorous lower bound, or the estimate's value if there is none.
        delta: maximal probability that the inequality fails, over the examples (for ``realizable`` on a single
            function: over the examples and its draw).
        delta_estimator: maximal probability that ``log_p`` exceeds log P(S), over the randomness of the estimator; 0 if
            it is exact or not rigorous.
        gamma: maximal probability that the single function drawn violates the inequality; None if the inequality has no
            γ.
        diagonal_shift: c if the prior is that of K + cI, the network's outputs with independent noise of variance c;
            else 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    name: BoundName
    value: Annotated[float, Field(ge=0, le=1)]
    bounds: str
    is_bound: bool
    conditions: tuple[str, ...]
    reference: str
    m: int
    log_p: Annotated[float, Field(allow_inf_nan=True)]
    delta: float
    delta_estimator: float
    gamma: float | None = None
    diagonal_shift: float = 0.0

    @property
    def failure(self) -> float:
        """Total probability of failure, by the union bound."""
        return self.delta + self.delta_estimator + (self.gamma or 0.0)

    def __str__(self) -> str:
        confidence = f"with probability {1 - self.failure:g}" if self.is_bound else "not a bound: log P is an estimate"
        return f"{self.name}: {self.value:.4f} ({confidence}, m = {self.m})"

    def __repr__(self) -> str:
        return str(self)


def bound_row(
    index: int, estimate: Estimate, bounds: Mapping[BoundName, PacBayesBound], clean_error: float | None = None
) -> dict[str, Any]:
    """Return the row of an estimate and its bounds.

    Args:
        index: index of the labelling in its request.
        estimate: estimate of log P of the training labels.
        bounds: bounds from the estimate, the sharpest first.
        clean_error: bound on the error on uncorrupted labels, from the sharpest one; None if no labels are corrupted.

    Returns:
        JSON-compatible values.
    """
    sharpest = next(iter(bounds.values()))
    return {
        **row_of(index, estimate),
        "m": estimate.n,
        "bound": sharpest.value,
        "bounds": [finite(bound.model_dump(mode="json")) for bound in bounds.values()],
        **({} if clean_error is None else {"clean_error": clean_error}),
    }


class BoundResult(Result):
    """Bounds of one labelling as sent, and log P of its labels.

    If several numbers of examples were requested, they are those of the largest one, and ``points`` has all of them.
    """

    @property
    def m(self) -> int | None:
        """Number of training examples; None without an estimate."""
        return self.row.get("m")

    @cached_property
    def bounds(self) -> dict[BoundName, PacBayesBound]:
        """Bounds as from :func:`nngp_prior.pac_bayes_bounds`; empty without an estimate."""
        found = [PacBayesBound.model_validate(bound) for bound in self.row.get("bounds", [])]
        return {bound.name: bound for bound in found}

    @property
    def bound(self) -> float:
        """The sharpest bound, ``realizable``; NaN if there is none."""
        return self.row.get("bound", math.nan)

    @property
    def clean_error(self) -> float | None:
        """Bound on the error on uncorrupted labels; None if no labels are corrupted."""
        return self.row.get("clean_error")

    @cached_property
    def points(self) -> list[BoundResult]:
        """One result for each requested number of examples, in increasing order."""
        return [BoundResult(point) for point in self.row["points"]] if "points" in self.row else [self]

    def __repr__(self) -> str:
        if not self.bounds:
            return super().__repr__()
        return f"labelling {self.labelling}: {self.bounds['realizable']}"


class BoundResults(Results[BoundResult]):
    """All bounds of a request, in the order of its labellings.

    The data frame has a row for each labelling and number of examples m.
    """

    _one = BoundResult

    @property
    def _points(self) -> list[BoundResult]:
        return [point for result in self for point in result.points]

    @override
    def _table(self) -> Table:
        points = self._points
        m = Column("m", lambda point: point.m, heading="m", form=",.0f")
        bounds = bound_columns(name for point in points for name in point.bounds)
        clean = Column("clean_error", lambda point: point.clean_error, heading="clean error")
        return Table([LABELLING, m, *LOG_P, *bounds, clean, *STATUS], points)

    @override
    def _draw(self, ax: Any) -> None:
        curves = max((len(result.points) for result in self), default=1) > 1
        if not curves:
            at = [result.labelling for result in self]
            draw_bounds(ax, at, [result.bounds for result in self])
            label_axes(ax, "labelling", "bound on the error", self.about)
            return
        for result, colour in zip(self, itertools.cycle(style.COLOURS)):
            m = [math.nan if point.m is None else point.m for point in result.points]
            values = [point.bound for point in result.points]
            rigorous = all(bound.is_bound for point in result.points for bound in point.bounds.values())
            line = "o-" if rigorous else "o--"
            ax.plot(m, values, line, color=colour, markersize=4, lw=1.3, label=f"labelling {result.labelling}")
        ax.set(ylabel="bound on the error (realizable)", ylim=(0, 1.02))
        label_sizes(ax, [point.m for result in self for point in result.points if point.m is not None])
        set_title(ax, self.about)
        if 1 < len(self) <= len(style.COLOURS):
            ax.legend()


def label_sizes(ax: Any, sizes: Iterable[int]) -> None:
    """Make numbers of training examples the abscissa, with a tick at each if they are few.

    Args:
        ax: axes of matplotlib.
        sizes: numbers of examples.
    """
    ax.set(xlabel="training examples m", xscale="log")
    ticks = sorted(set(sizes))
    if len(ticks) <= _TICKS:
        ax.set_xticks(ticks, [f"{m:,}" for m in ticks])
        ax.minorticks_off()


def bound_columns(names: Iterable[BoundName]) -> list[Column]:
    """Return a column for each inequality, of objects with ``bounds``."""

    def value(name: BoundName) -> Callable[[Any], float | None]:
        return lambda point: point.bounds[name].value if name in point.bounds else None

    return [Column(name, value(name), heading=titles.BOUNDS[name]) for name in dict.fromkeys(names)]


def draw_bounds(
    ax: Any, at: Sequence[int], bounds: Sequence[Mapping[BoundName, PacBayesBound]], *, join: bool = False
) -> None:
    """Draw all bounds, one colour per inequality; bounds that are not rigorous have hollow points.

    Args:
        ax: axes of matplotlib.
        at: places of the points.
        bounds: bounds at each place, by name.
        join: True for lines through the points.
    """
    names: list[BoundName] = list(dict.fromkeys(name for each in bounds for name in each))
    for name, colour in zip(names, itertools.cycle(style.COLOURS)):
        values = [each[name].value if name in each else math.nan for each in bounds]
        rigorous = all(each[name].is_bound for each in bounds if name in each)
        face = colour if rigorous else "none"
        line = "o-" if join else "o"
        ax.plot(at, values, line, color=colour, markersize=4, markerfacecolor=face, lw=1.3, label=titles.BOUNDS[name])
    ax.set_ylim(0, 1.02)
    if names:
        ax.legend()
