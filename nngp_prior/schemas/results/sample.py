"""Draws from the prior, their JSON format, and their readers in clients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from nngp_prior.extras import import_from
from nngp_prior.schemas.results.base import Result, row_of
from nngp_prior.schemas.results.estimate import Estimate
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


class Samples(list[SampledFunction]):
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
    def status(self) -> str:
        """``ok`` or ``worker-crashed``."""
        return self.row["status"]

    @property
    def message(self) -> str:
        """Meaning of the status, and remedy."""
        return self.row["message"]

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

    @property
    def seconds(self) -> float:
        """Time of drawing and counting in seconds."""
        return self.row.get("seconds", 0.0)

    def to_pandas(self) -> Any:
        """Return a data frame with a row for each function.

        Returns:
            a ``pandas.DataFrame``; log P in nats, complexities by name.
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
