"""PAC-Bayes bounds as JSON has them, and as clients read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from nngp_prior.extras import import_from
from nngp_prior.schemas.base import Specification
from nngp_prior.schemas.results.base import Result, Results, finite, row_of
from nngp_prior.schemas.results.estimate import Estimate

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
        diagonal_shift: c if the prior is that of K + cI, the network's outputs with independent noise of variance c;
            else 0.
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
    diagonal_shift: float = 0.0

    @property
    def failure(self) -> float:
        """The probability of being wrong, all parts together: the union bound."""
        return self.delta + self.delta_estimator + (self.gamma or 0.0)

    def __str__(self) -> str:
        confidence = f"with probability {1 - self.failure:g}" if self.is_bound else "not a bound: log P is an estimate"
        return f"{self.name}: {self.value:.4f} ({confidence}, m = {self.m})"

    def __repr__(self) -> str:
        return str(self)


def bound_row(
    index: int, estimate: Estimate, bounds: Mapping[BoundName, PacBayesBound], clean_error: float | None = None
) -> dict[str, Any]:
    """One result: an estimate and the bounds that follow.

    Args:
        index: of the labelling in its request.
        estimate: of log P of the training labels.
        bounds: from it, the sharpest one first.
        clean_error: what that one says of the error on labels that are not corrupted; None where none are.

    Returns:
        what JSON can hold.
    """
    sharpest = next(iter(bounds.values()))
    return {
        **row_of(index, estimate),
        "m": estimate.n,
        "bound": sharpest.value,
        "bounds": [finite(bound.model_dump(mode="json")) for bound in bounds.values()],
        **({} if clean_error is None else {"clean_error": clean_error}),
    }


class BoundResult(Result):
    """The bounds of one labelling, as they were sent; log P of its labels is read as of any other result.

    Where several numbers of examples were asked for, it is that of the largest one, and all are in ``points``.
    """

    @property
    def m(self) -> int | None:
        """The number of training examples; None where there is no estimate."""
        return self.row.get("m")

    @property
    def bounds(self) -> dict[BoundName, PacBayesBound]:
        """As of :func:`nngp_prior.pac_bayes_bounds`; none where there is no estimate."""
        found = [PacBayesBound.model_validate(bound) for bound in self.row.get("bounds", [])]
        return {bound.name: bound for bound in found}

    @property
    def bound(self) -> float:
        """The sharpest of them, ``realizable``; NaN where there is none."""
        return self.row.get("bound", math.nan)

    @property
    def clean_error(self) -> float | None:
        """What it says of the error on labels that are not corrupted; None where none are."""
        return self.row.get("clean_error")

    @property
    def points(self) -> list[BoundResult]:
        """One for each number of examples that was asked for, the smallest first."""
        return [BoundResult(point) for point in self.row["points"]] if "points" in self.row else [self]

    def __repr__(self) -> str:
        if not self.bounds:
            return super().__repr__()
        return f"labelling {self.labelling}: {self.bounds['realizable']}"


class BoundResults(Results[BoundResult]):
    """All bounds of a request, in the order of its labellings."""

    _one = BoundResult

    def to_pandas(self) -> Any:
        """A data frame with a line for each labelling and number of examples.

        Returns:
            a ``pandas.DataFrame``; log P in nats, bounds by their names.
        """
        pandas = import_from("notebooks", "pandas")
        return pandas.DataFrame([_line(point) for result in self for point in result.points])


def _line(point: BoundResult) -> dict[str, Any]:
    return {
        "labelling": point.labelling,
        "m": point.m,
        "log_p": point.value,
        "stderr": math.nan if point.stderr is None else point.stderr,
        **{name: bound.value for name, bound in point.bounds.items()},
        "clean_error": math.nan if point.clean_error is None else point.clean_error,
        "status": point.status,
        "message": point.message,
        "seconds": point.seconds,
    }
