"""JSON format of results, shared by the command line, the service and its clients."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from typing_extensions import TypeVar

from nngp_prior.extras import import_from
from nngp_prior.schemas import titles
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.text import html_table, number_of
from nngp_prior.style import INK

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


@dataclass(frozen=True, repr=False)
class Result:
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
    def status(self) -> str:
        """Status of the estimate; or ``invalid-labels``, ``worker-crashed``, ``memory-limit``."""
        return self.row["status"]

    @property
    def message(self) -> str:
        """Meaning of the status, and remedy."""
        return self.row["message"]

    @property
    def diagnostics(self) -> dict[str, Any]:
        """Diagnostics of the method."""
        return self.row.get("diagnostics", {})

    @property
    def seconds(self) -> float:
        """Computing time in seconds."""
        return self.row.get("seconds", 0.0)

    @property
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

    def __repr__(self) -> str:
        error = "" if self.stderr is None else f" ± {self.stderr:.2g}"
        note = "" if self.status == "ok" else f" [{self.status}]"
        return f"labelling {self.labelling}: log P = {self.value:.6g}{error} nats{note}"


R = TypeVar("R", bound=Result, default=Result)


class Results(list[R]):
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

    def to_pandas(self) -> Any:
        """Return a data frame with a row for each labelling.

        Returns:
            a ``pandas.DataFrame``.
        """
        pandas = import_from("notebooks", "pandas")
        columns = ("labelling", "log_p", "stderr", "low", "high", "lower_bound", "status", "message", "seconds")
        return pandas.DataFrame([dict(zip(columns, self._line(result), strict=True)) for result in self])

    def plot(self, axes: Any = None) -> Any:
        """Plot log P of each labelling with its 95 % interval.

        Args:
            axes: matplotlib axes. Default: new ones.

        Returns:
            the axes.
        """
        pyplot, ticker = (import_from("plots", f"matplotlib.{module}") for module in ("pyplot", "ticker"))
        axes = pyplot.subplots(layout="constrained")[1] if axes is None else axes
        axes.spines[["top", "right"]].set_visible(False)
        ends = np.array([result.interval() or (math.nan, math.nan) for result in self]).reshape(-1, 2)
        places, finite = [result.labelling for result in self], np.isfinite(self.values)
        axes.plot(places, np.where(finite, self.values, math.nan), "o", markersize=4, color=INK)
        whole = finite & np.isfinite(ends).all(axis=1)
        axes.vlines(np.array(places)[whole], *ends[whole].T, color=INK, lw=1.3)
        axes.set_xlabel("labelling")
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, min_n_ticks=1))
        if "n" in self.about:
            inputs = f"{self.about['n']:,} {titles.data(self.about.get('dataset'))}"
            architecture = self.about.get("architecture")
            axes.set_title(inputs if architecture is None else f"{inputs}, {titles.network(architecture)}", fontsize=10)
        axes.set_ylabel("log P (nats)")
        return axes

    def _line(self, result: Result) -> tuple[Any, ...]:
        low, high = result.interval() or (math.nan, math.nan)
        bound = (result.row.get("lower_bound") or {}).get("log_p")
        numbers = (result.value, _number(result.stderr, math.nan), low, high, _number(bound, math.nan))
        return (result.labelling, *numbers, result.status, result.message, result.seconds)

    def __repr__(self) -> str:
        states = Counter(result.status for result in self)
        counted = ", ".join(f"{count:,} {status}" for status, count in states.items())
        return f"<{type(self).__name__} {number_of(len(self), 'labelling')}: {counted}>"

    def _repr_html_(self) -> str:
        heads = ("labelling", "log P (nats)", "s.e.", "95 % interval", "lower bound", "status", "message")
        lines = []
        for result in self:
            place, value, stderr, low, high, bound, status, message, _ = self._line(result)
            interval = "" if math.isnan(low) else f"{low:.4f} … {high:.4f}"
            numbers = ("" if math.isnan(number) else f"{number:.4f}" for number in (value, stderr))
            lower = "" if math.isnan(bound) else f"{bound:.4f}"
            lines.append((place, *numbers, interval, lower, status, message))
        return html_table(heads, lines)


def _number(value: float | str | None, absent: Any) -> Any:
    """Decode a number that may be a string in JSON (:func:`finite`)."""
    return absent if value is None else float(value)
