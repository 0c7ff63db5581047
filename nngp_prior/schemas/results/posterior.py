"""Posterior at test inputs with standard errors, and its JSON format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from typing_extensions import override

from nngp_prior import style
from nngp_prior.schemas.results.base import LABELLING, LOG_P, STATUS, Result, Results, finite, label_axes, row_of
from nngp_prior.schemas.results.class_predictive import ClassPredictive
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.statistics import student_quantile
from nngp_prior.schemas.table import Column, Table, Tabular
from nngp_prior.schemas.text import number_of


@dataclass(frozen=True, repr=False)
class Predictive(Tabular):
    """Predictive probabilities P(label +1 | S) of test inputs; the data frame has a row for each.

    If few particles have the rarer label, the inverse of the effective number of particles is added to its standard
    error; :meth:`nngp_prior.Posterior.log_probability` of that label has a smaller one.

    Attributes:
        value: (t,) probabilities of the label +1 at each test input; that of the label -1 is the complement.
        stderr: (t,) standard errors: jackknife over replicates, plus a term for labels that particles may have missed.
        freedom: degrees of freedom of the standard errors, number of replicates minus one.
    """

    value: np.ndarray
    stderr: np.ndarray
    freedom: int

    @property
    def votes(self) -> np.ndarray:
        """(t,) labels with the larger posterior probability, -1 or +1; 0 for a tie."""
        return np.sign(self.value - 0.5).astype(np.int64)

    def uncertain(self, level: float = 0.95) -> np.ndarray:
        """Return a mask of inputs whose interval contains ½, so that more particles may change the vote.

        Args:
            level: coverage of the interval of each single input (Student's t).

        Returns:
            (t,) booleans.
        """
        return np.abs(self.value - 0.5) <= student_quantile(self.freedom, level) * self.stderr

    @override
    def _summary(self) -> str:
        plus, unsure = int((self.votes > 0).sum()), int(self.uncertain().sum())
        inputs, votes = number_of(len(self.value), "input"), number_of(unsure, "vote")
        return f"{inputs}: {plus:,} voted +1, {votes} uncertain"

    @override
    def _table(self) -> Table:
        votes, uncertain = self.votes, self.uncertain()
        columns = [
            Column("input", lambda i: i, "int64", "test input"),
            Column("probability", lambda i: float(self.value[i]), heading="P(+1)"),
            Column("stderr", lambda i: float(self.stderr[i]), heading="s.e.", form=".2g"),
            Column("vote", lambda i: int(votes[i]), "int64", "vote", "d"),
            Column("uncertain", lambda i: bool(uncertain[i]), "bool", "uncertain"),
        ]
        return Table(columns, range(len(self.value)))

    @override
    def _draw(self, ax: Any) -> None:
        order = np.argsort(self.value, kind="stable")
        half_width = student_quantile(self.freedom, 0.95) * self.stderr[order]
        value = self.value[order]
        low, high = np.maximum(value - half_width, 0), np.minimum(value + half_width, 1)
        style.points(ax, np.arange(len(order)), value, low, high)
        ax.axhline(0.5, color="grey", lw=0.8, ls=":")
        ax.set_ylim(-0.02, 1.02)
        label_axes(ax, "test inputs, by probability", "P(label +1 | training labels)", {})


@dataclass(frozen=True, repr=False)
class GibbsError:
    """Expected error of one function drawn from the posterior, as a mean over the given test inputs.

    The standard error is that of the computation. It does not include the difference between the mean over these inputs
    and the mean over their distribution.

    Attributes:
        value: error between 0 and 1.
        stderr: jackknife standard error over replicates.
        freedom: degrees of freedom of the standard error, number of replicates minus one.
    """

    value: float
    stderr: float
    freedom: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return a confidence interval.

        Args:
            level: coverage of the interval.

        Returns:
            value ± t · stderr, cut at 0 and 1; t the quantile of Student's distribution.
        """
        half_width = student_quantile(self.freedom, level) * self.stderr
        return max(self.value - half_width, 0.0), min(self.value + half_width, 1.0)

    def __repr__(self) -> str:
        return f"Gibbs error = {self.value:.4f} ± {self.stderr:.2g}"


@dataclass(frozen=True, repr=False)
class VoteError:
    """Error of the (Bayes) vote, the label with the larger posterior probability, over the given test inputs.

    Attributes:
        value: fraction of the test inputs with a wrong vote; a tie is half an error.
        low: value if all uncertain votes were right.
        high: value if all uncertain votes were wrong.
        uncertain: number of votes that more particles may change: ½ is within the 95 % interval of the probability.
    """

    value: float
    low: float
    high: float
    uncertain: int

    @classmethod
    def of(cls, wrong: np.ndarray, uncertain: np.ndarray) -> Self:
        """Return the error of votes.

        Args:
            wrong: (t,) 1 for a wrong vote, 0 for a right one, ½ for a tie.
            uncertain: (t,) mask of the votes that more particles may change.

        Returns:
            the error.
        """
        low = float(wrong[~uncertain].sum()) / len(wrong)
        return cls(float(wrong.mean()), low, low + float(uncertain.mean()), int(uncertain.sum()))

    def __repr__(self) -> str:
        uncertain = number_of(self.uncertain, "vote")
        return f"vote error = {self.value:.4f} ({self.low:.4f} … {self.high:.4f}, {uncertain} uncertain)"


def posterior_row(
    index: int,
    log_p: Estimate,
    predictive: Predictive | ClassPredictive,
    gibbs: GibbsError,
    vote: VoteError,
    given: Estimate,
) -> dict[str, Any]:
    """Return the row of one result.

    Args:
        index: index of the labelling in its request.
        log_p: estimate of log P of the training labels.
        predictive: predictive probabilities at the test inputs.
        gibbs: Gibbs error for the labels of the test inputs.
        vote: error of the vote for the labels of the test inputs.
        given: log P of the labels of the test inputs given the training labels.

    Returns:
        JSON-compatible values: the row of the estimate for the training labels, and ``test``.
    """
    of_labels = row_of(index, given)
    del of_labels["labelling"], of_labels["lower_bound"]
    test = {
        **of_labels,
        "predictive": {name: finite(np.asarray(x).tolist()) for name, x in vars(predictive).items()},
        "gibbs_error": finite(asdict(gibbs)),
        "vote_error": asdict(vote),
    }
    return {**row_of(index, log_p), "test": test}


class PosteriorResult(Result):
    """A posterior as sent, and log P of the training labels."""

    @property
    def predictive(self) -> Predictive | ClassPredictive | None:
        """Predictive probabilities at the test inputs; None without a posterior."""
        found = self._test("predictive")
        if found is None:
            return None
        kind = ClassPredictive if "margin_stderr" in found else Predictive
        arrays = {name: np.array(x, dtype=float) for name, x in found.items() if name != "freedom"}
        return kind(**arrays, freedom=found["freedom"])

    @property
    def gibbs_error(self) -> GibbsError | None:
        """Expected error of a function drawn from the posterior; None if there is none."""
        found = self._test("gibbs_error")
        return None if found is None else GibbsError(float(found["value"]), float(found["stderr"]), found["freedom"])

    @property
    def vote_error(self) -> VoteError | None:
        """Error of the vote; None without a posterior."""
        found = self._test("vote_error")
        return None if found is None else VoteError(**found)

    @cached_property
    def given(self) -> Estimate | None:
        """log P of the labels of the test inputs given those of the training inputs, nats; None without a posterior."""
        return Result(self.row["test"]).estimate if "test" in self.row else None

    def _test(self, name: str) -> Any:
        return self.row.get("test", {}).get(name)

    def __repr__(self) -> str:
        if "test" not in self.row:
            return super().__repr__()
        return f"labelling {self.labelling}: {self.gibbs_error}, {self.vote_error}"


class PosteriorResults(Results[PosteriorResult]):
    """All posteriors of a request, in the order of its labellings."""

    _one = PosteriorResult

    @override
    def _table(self) -> Table:
        return Table([LABELLING, *LOG_P, *_ERRORS, *STATUS], self)

    @override
    def _draw(self, ax: Any) -> None:
        found = [(each.labelling, each.gibbs_error, each.vote_error) for each in self]
        gibbs = [(at, error.value, *error.interval()) for at, error, _ in found if error]
        vote = [(at, error.value, error.low, error.high) for at, _, error in found if error]
        style.points(ax, *np.array(gibbs, float).reshape(-1, 4).T, label="Gibbs error, 95 % interval")
        at, *rest = np.array(vote, float).reshape(-1, 4).T
        style.points(ax, at + 0.1, *rest, color=style.ACCENT, label="error of the vote, by uncertain votes")
        ax.set_ylim(bottom=0)
        label_axes(ax, "labelling", "test error", self.about)
        ax.legend()


def _number_of(part: str, name: str) -> Callable[[PosteriorResult], float | None]:
    """Return the getter of a number of a part of the result; None if there is no such part."""
    return lambda result: getattr(getattr(result, part), name, None)


_ERRORS = (
    Column("gibbs_error", _number_of("gibbs_error", "value"), heading="Gibbs error"),
    Column("gibbs_stderr", _number_of("gibbs_error", "stderr"), heading="s.e.", form=".2g"),
    Column("vote_error", _number_of("vote_error", "value"), heading="vote error"),
    Column("vote_low", _number_of("vote_error", "low"), heading="from"),
    Column("vote_high", _number_of("vote_error", "high"), heading="to"),
    Column("uncertain_votes", _number_of("vote_error", "uncertain"), heading="uncertain votes", form=",.0f"),
    Column("log_p_given", _number_of("given", "value"), heading="log P(test | training) (nats)"),
    Column("stderr_given", _number_of("given", "stderr"), heading="s.e.", form=".2g"),
)
