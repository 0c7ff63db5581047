"""PAC-Bayes bounds as they are reported."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from nngp_prior.schemas.base import Specification

BoundName = Literal[
    "realizable", "maurer", "langford-seeger", "valle-perez-camargo-louis", "mcallester", "valle-perez-louis"
]


class PacBayesBound(Specification):
    """A number that a generalization error is claimed to stay under, and everything that the claim rests on.

    Attributes:
        name: of the inequality.
        value: the error is at most this; 1 where nothing is known.
        bounds: which error.
        is_bound: False where log P is an estimate without a rigorous lower bound (EP's, say): the number then shows
            what the inequality would give, and is not a bound.
        conditions: what must hold for it to be one.
        reference: the paper and the equation or theorem.
        m: number of training examples.
        log_p: what stands for log P(S), nats: the rigorous lower bound, or where there is none the estimate's value.
        delta: the inequality fails with at most this probability over the examples (for ``realizable`` on a single
            function: over the examples and its draw).
        delta_estimator: ``log_p`` is above log P(S) with at most this probability over the estimator's own randomness;
            0 where it is exact or not rigorous.
        gamma: the single function that is drawn breaks the inequality with at most this probability; None where the
            inequality has no γ.
        added: c where the prior is that of K + cI, the network's outputs with independent noise of variance c, else 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    name: BoundName
    value: Annotated[float, Field(ge=0, le=1)]
    bounds: str
    is_bound: bool
    conditions: tuple[str, ...]
    reference: str
    m: int
    log_p: Annotated[float, Field(allow_inf_nan=True)]
    delta: float
    delta_estimator: float
    gamma: float | None = None
    added: float = 0.0

    @property
    def failure(self) -> float:
        """The probability of being wrong, all parts together: the union bound."""
        return self.delta + self.delta_estimator + (self.gamma or 0.0)

    def __str__(self) -> str:
        confidence = f"with probability {1 - self.failure:g}" if self.is_bound else "not a bound: log P is an estimate"
        return f"{self.name}: {self.value:.4f} ({confidence}, m = {self.m})"

    def __repr__(self) -> str:
        return str(self)
