"""Draws from the prior as JSON has them, and as clients read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from nngp_prior.extras import import_from
from nngp_prior.schemas.results.base import Result, row_of
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.text import one_line


class SampledFunction(NamedTuple):
    """A function, and how often it was drawn.

    Attributes:
        rank: 1 for the most frequent one.
        labels: (n,) -1 and +1, in the order of the inputs.
        draws: of it.
        frequency: log of its frequency in nats, with an exact binomial interval.
        complexities: by the names of the measures that were asked for.
    """

    rank: int
    labels: np.ndarray
    draws: int
    frequency: Estimate
    complexities: dict[str, float]

    def __repr__(self) -> str:
        return one_line(self)


def function_row(
    rank: int, labels: np.ndarray, draws: int, frequency: Estimate, complexities: Mapping[str, float]
) -> dict[str, Any]:
    """One function.

    Args:
        rank: 1 for the most frequent one.
        labels: (n,) -1 and +1.
        draws: of it.
        frequency: log of its frequency, nats.
        complexities: by the names of the measures.

    Returns:
        what JSON can hold; labels are a string of 0 (for -1) and 1.
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


class Samples(list[SampledFunction]):
    """The most frequent functions of a sample, as they were sent, the most frequent one first.

    Args:
        row: of the results; one that was refused has no functions.
        about: what stands above it: number of inputs, data set, architecture, source, seed, versions.

    Attributes:
        row: as above.
        about: as above.
    """

    def __init__(self, row: dict[str, Any], about: Mapping[str, Any] | None = None) -> None:
        super().__init__(_function(each) for each in row.get("top", []))
        self.row, self.about = row, dict(about or {})

    @property
    def status(self) -> str:
        """``ok``; or ``worker-crashed``."""
        return self.row["status"]

    @property
    def message(self) -> str:
        """What the status means, and what to try."""
        return self.row["message"]

    @property
    def draws(self) -> int:
        """Of all functions and those undecided."""
        return self.row.get("draws", 0)

    @property
    def functions(self) -> int:
        """How many different ones there are, listed or not."""
        return self.row.get("functions", 0)

    @property
    def undecided(self) -> int:
        """Draws with an output that is exactly 0, which are no function's."""
        return self.row.get("undecided", 0)

    @property
    def zeros(self) -> np.ndarray:
        """(n,) for each input, draws whose output there is exactly 0."""
        return np.array(self.row.get("zeros", []), dtype=np.int64)

    @property
    def seconds(self) -> float:
        """Of drawing and counting."""
        return self.row.get("seconds", 0.0)

    def to_pandas(self) -> Any:
        """A data frame with a line for each function.

        Returns:
            a ``pandas.DataFrame``; log P in nats, complexities by their names.
        """
        pandas = import_from("notebooks", "pandas")
        return pandas.DataFrame([_line(function) for function in self])

    def __repr__(self) -> str:
        note = "" if self.status == "ok" else f" [{self.status}]"
        return f"<Samples {self.draws:,} draws, {self.functions:,} functions, {len(self):,} of them here{note}>"


def _function(row: dict[str, Any]) -> SampledFunction:
    labels = np.array([1 if bit == "1" else -1 for bit in row["labels"]], dtype=np.int8)
    frequency = Result(row["frequency"]).estimate
    assert frequency is not None
    return SampledFunction(row["rank"], labels, row["draws"], frequency, row["complexities"])


def _line(function: SampledFunction) -> dict[str, Any]:
    low, high = function.frequency.interval() or (math.nan, math.nan)
    return {
        "rank": function.rank,
        "labels": bits_of(function.labels),
        "draws": function.draws,
        "log_p": function.frequency.value,
        "low": low,
        "high": high,
        **function.complexities,
    }
