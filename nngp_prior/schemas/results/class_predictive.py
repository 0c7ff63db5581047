"""Predictive probabilities of classes, and their scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from typing_extensions import override

from nngp_prior import style
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.results.base import label_axes
from nngp_prior.schemas.specs.labels import check_labels
from nngp_prior.schemas.statistics import student_quantile
from nngp_prior.schemas.table import Column, Table, Tabular
from nngp_prior.schemas.text import number_of


@dataclass(frozen=True, repr=False)
class ClassPredictive(Tabular):
    """Predictive probabilities P(class | S) of test inputs; the data frame has a row for each.

    Attributes:
        value: (t, C) probabilities; rows sum to 1.
        stderr: (t, C) standard errors: jackknife over replicates, plus a term for classes that particles may have
            missed.
        margin_stderr: (t,) standard errors of the difference between the two largest probabilities.
        freedom: degrees of freedom of the standard errors, number of replicates minus one.
    """

    value: np.ndarray
    stderr: np.ndarray
    margin_stderr: np.ndarray
    freedom: int

    @property
    def votes(self) -> np.ndarray:
        """(t,) classes with the largest posterior probability, the first of equals."""
        return self.value.argmax(axis=1)

    def uncertain(self, level: float = 0.95) -> np.ndarray:
        """Return a mask of inputs whose two likeliest classes may change places with more particles.

        Args:
            level: coverage of the interval of the difference at each single input (Student's t).

        Returns:
            (t,) booleans.
        """
        second, first = np.sort(self.value, axis=1)[:, -2:].T
        return first - second <= student_quantile(self.freedom, level) * self.margin_stderr

    def log_loss(self, y: ArrayLike) -> float:
        """Return the mean of -log P(y | S) over the test inputs, nats; infinite if a true class has probability 0.

        Args:
            y: (t,) classes of the test inputs.

        Returns:
            the log loss.
        """
        given = self._classes(y)
        with np.errstate(divide="ignore"):
            return float(-np.log(self.value[np.arange(len(given)), given]).mean())

    def calibration_error(self, y: ArrayLike, bins: int = 10) -> float:
        """Return the expected calibration error: |accuracy - confidence| of votes, over bins of equal width.

        Guo, Pleiss, Sun, Weinberger, ICML 2017, equation 5.

        Args:
            y: (t,) classes of the test inputs.
            bins: number of bins.

        Returns:
            mean over the test inputs, between 0 and 1.

        Raises:
            InvalidInput: if ``bins`` is not a positive integer.
        """
        if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
            raise InvalidInput("bins", f"got {bins!r}", "Pass a positive integer.")
        confidence, right = self.value.max(axis=1), self.votes == self._classes(y)
        place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
        gaps = np.bincount(place, right - confidence, bins)
        return float(np.abs(gaps).sum() / len(confidence))

    def _classes(self, y: ArrayLike) -> np.ndarray:
        return check_labels(y, len(self.value), self.value.shape[1]).astype(np.int64)

    @override
    def _summary(self) -> str:
        inputs, votes = number_of(len(self.value), "input"), number_of(int(self.uncertain().sum()), "vote")
        return f"{inputs}, {self.value.shape[1]:,} classes: {votes} uncertain"

    @override
    def _table(self) -> Table:
        votes, uncertain = self.votes, self.uncertain()
        columns = [
            Column("input", lambda i: i, "int64", "test input"),
            Column("vote", lambda i: int(votes[i]), "int64", "vote", "d"),
            Column("probability", lambda i: float(self.value[i, votes[i]]), heading="P(vote)"),
            Column("stderr", lambda i: float(self.stderr[i, votes[i]]), heading="s.e.", form=".2g"),
            Column("uncertain", lambda i: bool(uncertain[i]), "bool", "uncertain"),
        ]
        return Table(columns, range(len(self.value)))

    @override
    def _draw(self, ax: Any) -> None:
        probability, stderr = (x[np.arange(len(x)), self.votes] for x in (self.value, self.stderr))
        order = np.argsort(probability, kind="stable")
        half_width = student_quantile(self.freedom, 0.95) * stderr[order]
        low, high = np.maximum(probability[order] - half_width, 0), np.minimum(probability[order] + half_width, 1)
        style.points(ax, np.arange(len(order)), probability[order], low, high)
        ax.set_ylim(-0.02, 1.02)
        label_axes(ax, "test inputs, by probability", "P(vote | training labels)", {})
