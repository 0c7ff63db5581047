"""JSON format of results, shared by the command line, the service and its clients."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from typing_extensions import TypeVar, override

from nngp_prior import style
from nngp_prior.extras import import_from
from nngp_prior.schemas import titles
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.table import Column, Table, Tabular
from nngp_prior.schemas.text import number_of

LEVEL, DELTA = 0.95, 0.01  # defaults for intervals and lower bounds
GIVEN_UP = ("worker-crashed", "memory-limit", "damaged", "incomplete")
"""Statuses of rows that a service abandoned or lost, or that lack those; they may succeed in a new attempt."""


def row_of(index: int, estimate: Estimate, level: float = LEVEL, delta: float = DELTA) -> dict[str, Any]:
    """Return the row of one result.

    Args:
        index: index of the labelling in its request.
        estimate: estimate of log P of the labelling.
        level: level of the interval.
        delta: δ of the lower bound.

    Returns:
        JSON-compatible values, in nats.
    """
    interval, bound = estimate.interval(level), estimate.lower_bound(delta)
    return {
        "labelling": index,
        "method": estimate.method,
        "log_p": finite(estimate.value),
        "stderr": finite(estimate.stderr),
        "interval": None if interval is None else finite(list(interval)),
        "lower_bound": None if bound is None else {"delta": delta, "log_p": finite(bound)},
        "status": estimate.status,
        "message": estimate.message,
        "diagnostics": finite(estimate.model_dump(mode="json", include={"diagnostics"})["diagnostics"]),
        "seconds": round(estimate.seconds, 3),
        "n": estimate.n,
        "diagonal_shift": estimate.diagonal_shift,
        "evidence": finite(estimate.model_dump(mode="json", include={"evidence"})["evidence"]),
    }


def refused_row(index: int, status: str, message: str) -> dict[str, Any]:
    """Return the row of a labelling without an estimate.

    Args:
        index: index of the labelling in its request.
        status: ``invalid-labels``, ``worker-crashed``, ``memory-limit``, …
        message: what is wrong, and the remedy.

    Returns:
        a row as from :func:`row_of`, without numbers.
    """
    return {"labelling": index, "log_p": None, "stderr": None, "status": status, "message": message}


def finite(value: Any) -> Any:
    """Replace infinities and NaN, which JSON does not have, by strings."""
    match value:
        case dict():
            return {key: finite(part) for key, part in value.items()}
        case list() | tuple():
            return [finite(part) for part in value]
        case float() if math.isnan(value):
            return "NaN"
        case float() if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        case _:
            return value


class Row:
    """Row of a result as sent: its status, and why it has no values if it has none.

    Attributes:
        row: JSON-compatible values.
    """

    row: dict[str, Any]

    @property
    def status(self) -> str:
        """``ok``, the status of an estimate, or why there is none: ``invalid-labels`` or ``worker-crashed``."""
        return self.row["status"]

    @property
    def message(self) -> str:
        """Meaning of the status, and remedy."""
        return self.row["message"]

    @property
    def seconds(self) -> float:
        """Computing time in seconds."""
        return self.row.get("seconds", 0.0)


@dataclass(frozen=True, repr=False)
class Result(Row):
    """One result as sent, with the interface of an :class:`~nngp_prior.Estimate`.

    Attributes:
        row: row from :func:`row_of` or :func:`refused_row`.
    """

    row: dict[str, Any]

    @property
    def labelling(self) -> int:
        """Index of the labelling in the request."""
        return self.row["labelling"]

    @property
    def value(self) -> float:
        """log P in nats; NaN without an estimate, for which status and message give the reason."""
        return _number(self.row["log_p"], math.nan)

    @property
    def stderr(self) -> float | None:
        """Standard error of ``value``; None if there is none."""
        return _number(self.row["stderr"], None)

    @property
    def method(self) -> str | None:
        """Name of the estimator; None without an estimate."""
        return self.row.get("method")

    @property
    def diagnostics(self) -> dict[str, Any]:
        """Diagnostics of the method."""
        return self.row.get("diagnostics", {})

    @cached_property
    def estimate(self) -> Estimate | None:
        """The estimate; None if there is none."""
        if self.method is None:
            return None
        fields = ("method", "stderr", "status", "message", "diagnostics", "seconds", "n", "diagonal_shift", "evidence")
        return Estimate.model_validate({"value": self.value, **{name: self.row[name] for name in fields}})

    def interval(self, level: float = LEVEL) -> tuple[float, float] | None:
        """Return a confidence interval for log P.

        Args:
            level: coverage of the interval.

        Returns:
            its ends in nats, or None if there is none.
        """
        estimate = self.estimate
        return None if estimate is None else estimate.interval(level)

    def lower_bound(self, delta: float = DELTA) -> float | None:
        """Return a rigorous lower bound: log P is at least this with probability at least 1 - δ.

        Args:
            delta: δ.

        Returns:
            the bound in nats, or None if there is none.
        """
        estimate = self.estimate
        return None if estimate is None else estimate.lower_bound(delta)

    def upper_bound(self) -> float | None:
        """Return a certain upper bound on log P, nats; None if there is none."""
        estimate = self.estimate
        return None if estimate is None else estimate.upper_bound()

    def __repr__(self) -> str:
        error = "" if self.stderr is None else f" ± {self.stderr:.2g}"
        note = "" if self.status == "ok" else f" [{self.status}]"
        return f"labelling {self.labelling}: log P = {self.value:.6g}{error} nats{note}"


R = TypeVar("R", bound=Result, default=Result)


class Results(Tabular, list[R]):
    """All results of a request, in the order of its labellings.

    Args:
        rows: rows of the results.
        about: metadata: units, number of inputs, kernel, estimator, versions.

    Attributes:
        about: metadata.
    """

    _one: ClassVar[type[Any]] = Result

    def __init__(self, rows: Iterable[dict[str, Any]], about: Mapping[str, Any] | None = None) -> None:
        super().__init__(self._one(row) for row in rows)
        self.about = dict(about or {})

    @property
    def values(self) -> np.ndarray:
        """log P of each labelling in nats; NaN without an estimate."""
        return np.array([result.value for result in self])

    @property
    def stderrs(self) -> np.ndarray:
        """Standard errors; NaN if there is none."""
        return np.array([math.nan if result.stderr is None else result.stderr for result in self])

    @override
    def _summary(self) -> str:
        states = Counter(result.status for result in self)
        counted = ", ".join(f"{count:,} {status}" for status, count in states.items())
        return f"{number_of(len(self), 'labelling')}: {counted}"

    @override
    def _table(self) -> Table:
        return Table([LABELLING, *ESTIMATE, LOWER_BOUND, *STATUS], self)

    @override
    def _draw(self, ax: Any) -> None:
        ends = np.array([result.interval() or (math.nan, math.nan) for result in self]).reshape(-1, 2)
        at = [result.labelling for result in self]
        style.points(ax, at, self.values, *ends.T)
        label_axes(ax, "labelling", "log P (nats)", self.about)


def label_axes(ax: Any, index: str, quantity: str, about: Mapping[str, Any]) -> None:
    """Label axes whose abscissa is an index.

    Args:
        ax: axes of matplotlib.
        index: label of the abscissa.
        quantity: label of the ordinate.
        about: metadata of the results, for the title.
    """
    ticker = import_from("plots", "matplotlib.ticker")
    ax.set(xlabel=index, ylabel=quantity)
    ax.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, min_n_ticks=1))
    set_title(ax, about)


def set_title(ax: Any, about: Mapping[str, Any]) -> None:
    """Name data and network in the title.

    Args:
        ax: axes of matplotlib.
        about: metadata of the results; without a number of inputs there is no title.
    """
    if "n" in about:
        inputs = f"{about['n']:,} {titles.data(about.get('dataset'))}"
        architecture = about.get("architecture")
        ax.set_title(inputs if architecture is None else f"{inputs}, {titles.network(architecture)}", fontsize=10)


def _lower_bound(result: Any) -> float | None:
    return _number((result.row.get("lower_bound") or {}).get("log_p"), None)


def _end(i: int) -> Callable[[Any], float | None]:
    return lambda result: (result.interval() or (None, None))[i]


LABELLING = Column("labelling", lambda result: result.labelling, "int64", "labelling")
LOG_P = (
    Column("log_p", lambda result: result.value, heading="log P (nats)"),
    Column("stderr", lambda result: result.stderr, heading="s.e.", form=".2g"),
)
ESTIMATE = (
    *LOG_P,
    Column("low", _end(0), heading="95 % from"),
    Column("high", _end(1), heading="to"),
)
"""Columns of results with the attributes of an estimate: log P, its standard error, and the 95 % interval, in nats."""
LOWER_BOUND = Column("lower_bound", _lower_bound, heading="lower bound")
STATUS = (
    Column("status", lambda result: result.status, "str", "status"),
    Column("message", lambda result: result.message, "str", "message"),
    Column("seconds", lambda result: result.seconds),
)
"""Columns of all results."""


def _number(value: float | str | None, absent: Any) -> Any:
    """Decode a number that may be a string in JSON (:func:`finite`)."""
    return absent if value is None else float(value)
