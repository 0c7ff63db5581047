"""Draws from the prior, their JSON format, and their readers in clients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from typing_extensions import override

from nngp_prior import style
from nngp_prior.schemas.results.base import Result, Row, row_of, set_title
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.table import Column, Table, Tabular
from nngp_prior.schemas.text import number_of


class SampledFunction(NamedTuple):
    """A function and its number of draws.

    Attributes:
        rank: rank by frequency, from 1 for the most frequent function.
        labels: labels -1 and +1 in the order of the inputs, (n,).
        draws: number of draws of the function.
        frequency: logarithm of its frequency in nats, with an exact binomial interval.
        complexities: values of the requested complexity measures, by name.
    """

    rank: int
    labels: np.ndarray
    draws: int
    frequency: Estimate
    complexities: dict[str, float]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} rank {self.rank}, {number_of(self.draws, 'draw')}: {self.frequency}>"


def function_row(
    rank: int, labels: np.ndarray, draws: int, frequency: Estimate, complexities: Mapping[str, float]
) -> dict[str, Any]:
    """Return the row of one function.

    Args:
        rank: rank by frequency, from 1 for the most frequent function.
        labels: labels -1 and +1, (n,).
        draws: number of draws of the function.
        frequency: logarithm of its frequency, nats.
        complexities: values of the complexity measures, by name.

    Returns:
        JSON-compatible values; labels are a string of 0 (for -1) and 1.
    """
    found = row_of(0, frequency)
    del found["labelling"]
    return {
        "rank": rank,
        "labels": bits_of(labels),
        "draws": draws,
        "complexities": dict(complexities),
        "frequency": found,
    }


def bits_of(labels: np.ndarray) -> str:
    """Labels as a string of 0 (for -1) and 1."""
    return "".join("1" if label > 0 else "0" for label in labels)


class Samples(Tabular, Row, list[SampledFunction]):
    """The most frequent functions of a sample as sent, in decreasing order of frequency.

    Args:
        row: row of the result; a refused one has no functions.
        about: metadata: number of inputs, data set, architecture, source, seed, versions.

    Attributes:
        row: row of the result.
        about: metadata.
    """

    def __init__(self, row: dict[str, Any], about: Mapping[str, Any] | None = None) -> None:
        super().__init__(_function(each) for each in row.get("top", []))
        self.row, self.about = row, dict(about or {})

    @property
    def draws(self) -> int:
        """Number of draws, including undecided ones."""
        return self.row.get("draws", 0)

    @property
    def functions(self) -> int:
        """Number of different functions, listed or not."""
        return self.row.get("functions", 0)

    @property
    def undecided(self) -> int:
        """Number of draws with an output of exactly 0, which do not belong to a function."""
        return self.row.get("undecided", 0)

    @property
    def zeros(self) -> np.ndarray:
        """(n,) number of draws per input whose output there is exactly 0."""
        return np.array(self.row.get("zeros", []), dtype=np.int64)

    @override
    def _summary(self) -> str:
        note = "" if self.status == "ok" else f" [{self.status}]"
        return f"{self.draws:,} draws, {self.functions:,} functions, {len(self):,} of them here{note}"

    @override
    def _table(self) -> Table:
        names = dict.fromkeys(name for function in self for name in function.complexities)
        complexities = [Column(name, _complexity(name), heading=name, form=".4g") for name in names]
        return Table([*function_columns(), *complexities], self)

    @override
    def _draw(self, ax: Any) -> None:
        ends = [function.frequency.interval() or (math.nan, math.nan) for function in self]
        ranks, counts = ([getattr(function, name) for function in self] for name in ("rank", "draws"))
        draw_frequencies(ax, ranks, counts, ends, self.draws)
        set_title(ax, self.about)


def function_columns() -> list[Column]:
    """Return the columns of functions with rank, labels, draws and frequency."""
    return [
        Column("rank", lambda function: function.rank, "int64", "rank"),
        Column("labels", lambda function: bits_of(function.labels), "str", "labels"),
        Column("draws", lambda function: function.draws, "int64", "draws"),
        Column("log_p", lambda function: function.frequency.value, heading="log P (nats)"),
        Column("low", lambda function: (function.frequency.interval() or (None,))[0], heading="95 % from"),
        Column("high", lambda function: (function.frequency.interval() or (None,))[-1], heading="to"),
    ]


def draw_frequencies(
    ax: Any, ranks: ArrayLike, counts: Sequence[int], log_ends: Sequence[tuple[float, float]], draws: int
) -> None:
    """Draw frequencies of functions against their ranks, with their intervals.

    Args:
        ax: axes of matplotlib.
        ranks: rank of each function.
        counts: number of its draws.
        log_ends: ends of the interval of its log frequency, nats.
        draws: number of all draws.
    """
    low, high = np.exp(np.array(log_ends, float).reshape(-1, 2)).T
    style.points(ax, ranks, np.asarray(counts) / max(draws, 1), low, high)
    scale = "log" if len(counts) else "linear"
    ax.set(xscale=scale, yscale=scale, xlabel="rank of the function", ylabel="frequency P")


def _complexity(name: str) -> Callable[[SampledFunction], float | None]:
    return lambda function: function.complexities.get(name)


def _function(row: dict[str, Any]) -> SampledFunction:
    labels = np.array([1 if bit == "1" else -1 for bit in row["labels"]], dtype=np.int8)
    frequency = Result(row["frequency"]).estimate
    assert frequency is not None
    return SampledFunction(row["rank"], labels, row["draws"], frequency, row["complexities"])
