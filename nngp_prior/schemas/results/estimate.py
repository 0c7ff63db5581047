"""Estimates of log P and their error statements."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, Field
from typing_extensions import override

from nngp_prior.schemas.base import Specification
from nngp_prior.schemas.statistics import jackknife, require_probability, student_quantile

# SciPy is imported on use: clients read results without it.

# Fractions λ of the bets in the second lower bound: 2⁻ᵏ, k = 0 … 9.
_BETS = 2.0 ** -np.arange(10)
_SKEWNESS_UNSEEN = 3.0  # the sample's skewness is multiplied by 1 + 3/√R, 1.5 for 32 replicates


class _Evidence(Specification):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True, ser_json_inf_nan="strings")

    def upper_bound(self) -> float | None:
        """Return a certain upper bound on log P, nats; None if there is none."""
        return None


class Exact(_Evidence):
    """A value without statistical error."""

    kind: Literal["exact"] = "exact"
    log_p: float

    def value(self) -> float:
        """The value, nats."""
        return self.log_p

    def stderr(self) -> float:
        """Standard error, 0 since the value is exact."""
        return 0.0

    def interval(self, level: float) -> tuple[float, float]:
        """Return the value as both ends, for any level."""
        del level
        return self.log_p, self.log_p

    def lower_bound(self, delta: float) -> float:
        """Return the value, for any δ."""
        del delta
        return self.log_p

    @override
    def upper_bound(self) -> float:
        """Return the value."""
        return self.log_p


class Replicates(_Evidence):
    """Independent, non-negative, unbiased estimates Ẑ_r of P, given by their logarithms.

    Attributes:
        log_estimates: log Ẑ_r, nats.
        certain: a certain lower bound on log P, if there is one.
        upper: a certain upper bound on log P, if there is one.
    """

    kind: Literal["replicates"] = "replicates"
    log_estimates: Annotated[tuple[float, ...], Field(min_length=2)]
    certain: float | None = None
    upper: float | None = None

    def value(self) -> float:
        """log mean_r Ẑ_r."""
        from scipy.special import logsumexp

        return float(logsumexp(self.log_estimates)) - math.log(len(self.log_estimates))

    def stderr(self) -> float:
        """Jackknife standard error of the logarithm of the mean; infinite if a single replicate dominates."""
        log_z = np.array(self.log_estimates)
        if np.all(np.isneginf(log_z)):
            return math.inf
        z = np.exp(log_z - log_z.max())
        left_out = (z.sum() - z) / (len(z) - 1)
        if left_out.min() <= 0:
            return math.inf
        return float(jackknife(np.log(left_out)))

    def interval(self, level: float) -> tuple[float, float]:
        """value ± t · stderr, t the quantile of Student's distribution with R - 1 degrees of freedom.

        Where the Ẑ_r are skewed, heavy weights that were not drawn make the mean too small more often than too large.
        The upper end is therefore the larger of that and of :func:`_upper_of_skewed`. The interval is cut at the
        certain bounds; if it lies below the lower one entirely, it is from that to the upper one, or to 0.

        Returns:
            its ends, in nats.
        """
        certain = -math.inf if self.certain is None else self.certain
        top = 0.0 if self.upper is None else self.upper
        value = self.value()
        if math.isinf(value):
            return certain, top
        t = student_quantile(len(self.log_estimates) - 1, level)
        half_width = t * self.stderr()
        high = min(max(value + half_width, _upper_of_skewed(np.array(self.log_estimates), t)), top)
        return (max(value - half_width, certain), high) if high > certain else (certain, top)

    def lower_bound(self, delta: float) -> float:
        r"""Return a lower bound that log P exceeds with probability at least 1 - δ, for any distribution of the Ẑ_r.

        The larger of two bounds, each at δ/2; both hold for any stopping rule for adding replicates, since the products
        are non-negative martingales of mean 1 at p = P (Ville's inequality):

        .. math:: \frac1R \sum_r \log Ẑ_r + \frac{\log δ}{R}, \qquad
            \sup\Big\{\log p : \tfrac1{10} \sum_k \prod_r (1 - λ_k + λ_k Ẑ_r/p) \ge 1/δ\Big\}, \; λ_k = 2^{-k}

        The second holds even if replicates are zero. A certain bound needs no share of δ.

        Returns:
            the larger bound, in nats.
        """
        certain = -math.inf if self.certain is None else self.certain
        log_z = np.array(self.log_estimates)
        if np.all(np.isneginf(log_z)):
            return certain
        log_delta = math.log(delta / 2)
        product = float(np.mean(log_z)) + log_delta / len(log_z)
        return min(max(product, _betting_bound(log_z, -log_delta), certain), 0.0)

    @override
    def upper_bound(self) -> float | None:
        """Return the certain upper bound, if there is one."""
        return self.upper


def _upper_of_skewed(log_z: np.ndarray, t: float) -> float:
    """Upper end of an interval for the log of a mean whose standardised error is skewed.

    Hall's cubic transformation of the t statistic (J. R. Statist. Soc. B 54, 1992) removes its skewness, and is
    inverted in closed form. The sample's skewness is enlarged, since that of few values from a heavy tail is mostly
    smaller than their distribution's.

    Args:
        log_z: logarithms of at least two values, at least one finite.
        t: quantile of the transformed statistic.

    Returns:
        the end; -inf if the values are equal.
    """
    count = len(log_z)
    z = np.exp(log_z - log_z.max())
    deviation = float(z.std())
    if deviation == 0.0:
        return -math.inf
    skewness = float(np.mean((z - z.mean()) ** 3)) / deviation**3 * (1 + _SKEWNESS_UNSEEN / math.sqrt(count))
    g = skewness / math.sqrt(count)
    u = t if abs(g) < 1e-6 else 3 / g * (1 - math.cbrt(1 - g * (t + g / 6)))
    return float(log_z.max()) + math.log(z.mean() + u * deviation / math.sqrt(count - 1))


def _betting_bound(log_z: np.ndarray, log_threshold: float) -> float:
    with np.errstate(divide="ignore"):
        log_rest = np.log1p(-_BETS)[:, None]

    def log_wealth(log_p: float) -> float:
        factors = np.logaddexp(log_rest, np.log(_BETS)[:, None] + log_z - log_p)
        return float(np.logaddexp.reduce(factors.sum(axis=1))) - math.log(len(_BETS))

    # Wealth decreases in p: at the largest Ẑ no factor exceeds 1; far below the smallest non-zero one every bet wins.
    high = float(log_z.max())
    low = high - 1.0
    while log_wealth(low) < log_threshold:
        low = high - 2 * (high - low)
        if high - low > 1e6:
            return -math.inf
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if log_wealth(middle) >= log_threshold else (low, middle)
    return low


class Counts(_Evidence):
    """Number of hits among independent draws."""

    kind: Literal["counts"] = "counts"
    hits: Annotated[int, Field(ge=0)]
    draws: Annotated[int, Field(ge=1)]

    def value(self) -> float:
        """Logarithm of the frequency."""
        return math.log(self.hits / self.draws) if self.hits else -math.inf

    def stderr(self) -> float:
        """Binomial standard error of the logarithm (delta method); infinite without hits."""
        return math.sqrt((1 - self.hits / self.draws) / self.hits) if self.hits else math.inf

    def interval(self, level: float) -> tuple[float, float]:
        """Clopper and Pearson's exact interval (1934), as logarithms."""
        from scipy.special import betaincinv

        tail = (1 - level) / 2
        if self.hits == self.draws:
            return self.lower_bound(tail), 0.0
        return self.lower_bound(tail), math.log(betaincinv(self.hits + 1, self.draws - self.hits, 1 - tail))

    def lower_bound(self, delta: float) -> float:
        """Clopper and Pearson's one-sided bound, as a logarithm."""
        from scipy.special import betaincinv

        if self.hits == 0:
            return -math.inf
        return math.log(betaincinv(self.hits, self.draws - self.hits + 1, delta))


class Approximate(_Evidence):
    """A value with a standard error only, if part of the error is known only by its spread.

    Attributes:
        log_p: the value, nats.
        standard_error: of the value.
        freedom: degrees of freedom of the standard error.
    """

    kind: Literal["approximate"] = "approximate"
    log_p: float
    standard_error: Annotated[float, Field(ge=0)]
    freedom: Annotated[int, Field(ge=1)]

    def value(self) -> float:
        """The value, nats."""
        return self.log_p

    def stderr(self) -> float:
        """The standard error."""
        return self.standard_error

    def interval(self, level: float) -> tuple[float, float]:
        """Return value ± t · stderr, t the quantile of Student's distribution; the upper end is at most 0."""
        half_width = student_quantile(self.freedom, level) * self.standard_error
        return self.log_p - half_width, min(self.log_p + half_width, 0.0)

    def lower_bound(self, delta: float) -> None:
        """Return None: there is no rigorous bound."""
        del delta


Evidence = Annotated[Exact | Replicates | Counts | Approximate, Field(discriminator="kind")]

Status = Literal[
    "ok", "impossible", "not-converged", "heavy-tailed", "target-not-met", "no-hits", "rounding", "numerical-failure"
]


class Estimate(Specification):
    """Estimate of log P of one labelling, in nats; equality ignores wall time and diagnostics.

    Attributes:
        value: estimate of log P; -inf if P is 0 or there were no hits (see ``status``).
        stderr: standard error of ``value``; None if the method has none.
        n: number of inputs.
        method: name of the estimator.
        status: ``ok``; ``impossible`` (P is exactly 0); ``not-converged`` (EP, its correction, or Newton's method);
            ``heavy-tailed`` (the weights' tail makes the error bar untrustworthy); ``target-not-met``; ``no-hits``
            (every weight was 0); ``rounding`` (log P depends on the rounding of K by more than its statistical error);
            ``numerical-failure``.
        message: meaning of the status or of the options for the value, and remedy; may be empty.
        diagnostics: diagnostics of the method (effective sample size, Pareto-k̂, sweeps, …).
        seconds: wall time in seconds.
        evidence: data for the interval and the bound; None if the method has no error statement.
        diagonal_shift: c if the estimate is for K + cI (noise or jitter), in the units of K, else 0.
        rounding: standard error of log P due to the rounding of K, nats; included in ``stderr``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True, ser_json_inf_nan="strings")

    value: float
    stderr: float | None
    n: int
    method: str
    status: Status = "ok"
    message: str = ""
    diagnostics: dict[str, Any] = Field(default_factory=dict)
    seconds: float = 0.0
    evidence: Evidence | None = None
    diagonal_shift: Annotated[float, Field(ge=0)] = 0.0
    rounding: Annotated[float, Field(ge=0)] = 0.0

    @property
    def log_p(self) -> float:
        """Estimate of log P, under its name in JSON."""
        return self.value

    def __float__(self) -> float:
        return self.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Estimate) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self._content()[:-1])

    def _content(self) -> tuple[Any, ...]:
        """All fields except wall time and diagnostics, evidence last."""
        names = ("value", "stderr", "n", "method", "status", "message", "diagonal_shift", "rounding", "evidence")
        return tuple(getattr(self, name) for name in names)

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """Compute a confidence interval for log P.

        Args:
            level: coverage of the interval.

        Returns:
            its ends in nats (Student's t over replicates for ``smc``, ``ghk`` and ``bernstein-yue``, with an upper end
            that allows for skewness; Clopper-Pearson for ``sampling``; Student's t if the kernel is an estimate too),
            or None if the method has no error statement.
        """
        require_probability("level", level)
        if self.evidence is None:
            return None
        low, high = self.evidence.interval(level)
        if not self.rounding:
            return low, high
        more = _normal((1 + level) / 2) * self.rounding
        return self.value - math.hypot(self.value - low, more), min(self.value + math.hypot(high - self.value, more), 0)

    def lower_bound(self, delta: float = 0.01) -> float | None:
        """Return a rigorous lower bound: log P is at least this with probability at least 1 - δ.

        Args:
            delta: δ, over the randomness of the estimator.

        Returns:
            the bound in nats, or None if the method has none. If the rounding of K matters, the bound is lowered by the
            normal quantile of that error, which is not rigorous.
        """
        require_probability("delta", delta)
        bound = None if self.evidence is None else self.evidence.lower_bound(delta)
        return bound - _normal(1 - delta) * self.rounding if bound is not None and self.rounding else bound

    def upper_bound(self) -> float | None:
        """Return a certain upper bound on log P, without randomness (``minimax-tilting``; ``closed-form``: the value).

        Returns:
            the bound in nats, or None if the method has none, or the rounding of K matters.
        """
        if self.rounding or self.evidence is None:
            return None
        return self.evidence.upper_bound()

    def __str__(self) -> str:
        error = "" if self.stderr is None else f" ± {self.stderr:.2g}"
        note = "" if self.status == "ok" else f" [{self.status}]"
        return f"log P = {self.value:.6g}{error} nats ({self.method}, n = {self.n}){note}"

    def __repr__(self) -> str:
        return str(self)


def _normal(probability: float) -> float:
    """Quantile of the standard normal distribution."""
    from scipy.special import ndtri

    return float(ndtri(probability))
