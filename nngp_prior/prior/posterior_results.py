"""What the posterior says of test inputs, each number with its error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy.special import stdtrit

from nngp_prior.errors import InvalidInput


def _student(freedom: int, level: float) -> float:
    if not 0 < level < 1:
        raise InvalidInput("level", f"got {level}", "Choose a probability between 0 and 1.")
    return float(stdtrit(freedom, (1 + level) / 2))


@dataclass(frozen=True)
class Predictive:
    """Predictive probabilities P(label +1 | S) of test inputs.

    Attributes:
        value: of the label +1, for each test input, between 0 and 1; the label -1 has the rest.
        stderr: jackknife standard errors over replicates.
        freedom: degrees of freedom of the standard errors, replicates less one.
    """

    value: Float[np.ndarray, " t"]
    stderr: Float[np.ndarray, " t"]
    freedom: int

    @property
    def votes(self) -> Integer[np.ndarray, " t"]:
        """The label that more of the posterior has, -1 or +1; 0 where both have the same."""
        return np.sign(self.value - 0.5).astype(np.int64)

    def uncertain(self, level: float = 0.95) -> Bool[np.ndarray, " t"]:
        """Where ½ is within the interval of the probability, so that more particles may change the vote.

        Args:
            level: coverage of the interval, each input by itself (Student's t).

        Returns:
            one boolean a test input.
        """
        return np.abs(self.value - 0.5) <= _student(self.freedom, level) * self.stderr


@dataclass(frozen=True)
class GibbsError:
    """Expected error of one function drawn from the posterior, as a mean over the test inputs given.

    The standard error is that of the computation. How far a mean over so few inputs is from one over their
    distribution is not in it.

    Attributes:
        value: between 0 and 1.
        stderr: jackknife standard error over replicates.
        freedom: of it, replicates less one.
    """

    value: float
    stderr: float
    freedom: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """A confidence interval.

        Args:
            level: its coverage.

        Returns:
            value ± t · stderr, cut at 0 and 1; t the quantile of Student's distribution.
        """
        half_width = _student(self.freedom, level) * self.stderr
        return max(self.value - half_width, 0.0), min(self.value + half_width, 1.0)

    def __str__(self) -> str:
        return f"Gibbs error = {self.value:.4f} ± {self.stderr:.2g}"


@dataclass(frozen=True)
class VoteError:
    """Error of the (Bayes) vote, the label that most of the posterior has, over the test inputs given.

    Attributes:
        value: part of the test inputs whose vote is wrong; an even vote is half an error.
        low: the same, if all uncertain votes were right.
        high: the same, if all uncertain votes were wrong.
        uncertain: number of votes that more particles may change: ½ is within the 95 % interval of the probability.
    """

    value: float
    low: float
    high: float
    uncertain: int

    def __str__(self) -> str:
        return f"vote error = {self.value:.4f} ({self.low:.4f} … {self.high:.4f}, {self.uncertain} votes uncertain)"


def vote_error(predictive: Predictive, labels: Float[np.ndarray, " t"]) -> VoteError:
    """The vote's error.

    Args:
        predictive: probabilities of at least one test input.
        labels: ±1.

    Returns:
        the part that is wrong.
    """
    wrong = 0.5 * (1 - predictive.votes * labels)
    uncertain = predictive.uncertain()
    sure = wrong[~uncertain].sum() / len(labels)
    return VoteError(float(wrong.mean()), float(sure), float(sure + uncertain.mean()), int(uncertain.sum()))
