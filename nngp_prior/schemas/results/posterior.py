"""Posterior at test inputs with standard errors, and its JSON format."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nngp_prior.extras import import_from
from nngp_prior.schemas.results.base import Result, Results, finite, row_of
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.statistics import student_quantile
from nngp_prior.schemas.text import number_of


@dataclass(frozen=True)
class Predictive:
    """Predictive probabilities P(label +1 | S) of test inputs.

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

    def __repr__(self) -> str:
        plus, unsure = int((self.votes > 0).sum()), int(self.uncertain().sum())
        inputs, votes = number_of(len(self.value), "input"), number_of(unsure, "vote")
        return f"<Predictive {inputs}: {plus:,} voted +1, {votes} uncertain>"


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

    def __repr__(self) -> str:
        uncertain = number_of(self.uncertain, "vote")
        return f"vote error = {self.value:.4f} ({self.low:.4f} … {self.high:.4f}, {uncertain} uncertain)"


def posterior_row(
    index: int, log_p: Estimate, predictive: Predictive, gibbs: GibbsError, vote: VoteError, given: Estimate
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
        "predictive": {
            "value": finite(predictive.value.tolist()),
            "stderr": finite(predictive.stderr.tolist()),
            "freedom": predictive.freedom,
        },
        "gibbs_error": finite(asdict(gibbs)),
        "vote_error": asdict(vote),
    }
    return {**row_of(index, log_p), "test": test}


class PosteriorResult(Result):
    """A posterior as sent, and log P of the training labels."""

    @property
    def predictive(self) -> Predictive | None:
        """Predictive probabilities at the test inputs; None without a posterior."""
        found = self._test("predictive")
        if found is None:
            return None
        value, stderr = (np.array(found[name], dtype=float) for name in ("value", "stderr"))
        return Predictive(value, stderr, found["freedom"])

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

    @property
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

    def to_pandas(self) -> Any:
        """Return a data frame with a row for each labelling.

        Returns:
            a ``pandas.DataFrame``; log P in nats.
        """
        pandas = import_from("notebooks", "pandas")
        return pandas.DataFrame([_line(result) for result in self])


def _line(result: PosteriorResult) -> dict[str, Any]:
    gibbs, vote, given = result.gibbs_error, result.vote_error, result.given
    return {
        "labelling": result.labelling,
        "log_p": result.value,
        "stderr": result.stderr,
        "gibbs_error": gibbs and gibbs.value,
        "gibbs_stderr": gibbs and gibbs.stderr,
        "vote_error": vote and vote.value,
        "uncertain_votes": vote and vote.uncertain,
        "log_p_given": given and given.value,
        "stderr_given": given and given.stderr,
        "status": result.status,
        "message": result.message,
    }
