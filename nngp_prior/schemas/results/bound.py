"""PAC-Bayes bounds, their JSON format, and their readers in clients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from nngp_prior.extras import import_from
from nngp_prior.schemas.base import Specification
from nngp_prior.schemas.results.base import Result, Results, finite, row_of
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.specs.inequality import BoundName


class PacBayesBound(Specification):
    """An upper bound on a generalization error, with its conditions and parameters.

    Attributes:
        name: name of the inequality.
        value: upper bound on the error; 1 if nothing is known.
        bounds: error that is bounded.
        is_bound: False if log P is an estimate without a rigorous lower bound (such as EP's): ``value`` is then what
            the inequality would give, and is not a bound.
        conditions: conditions for it to be a bound.
        reference: paper, and number of the equation or theorem.
        m: number of training examples.
        log_p: value used for log P(S), nats: the rigorous lower bound, or the estimate's value if there is none.
        delta: maximal probability that the inequality fails, over the examples (for ``realizable`` on a single
            function: over the examples and its draw).
        delta_estimator: maximal probability that ``log_p`` exceeds log P(S), over the randomness of the estimator; 0 if
            it is exact or not rigorous.
        gamma: maximal probability that the single function drawn violates the inequality; None if the inequality has no
            γ.
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
        """Total probability of failure, by the union bound."""
        return self.delta + self.delta_estimator + (self.gamma or 0.0)

    def __str__(self) -> str:
        confidence = f"with probability {1 - self.failure:g}" if self.is_bound else "not a bound: log P is an estimate"
        return f"{self.name}: {self.value:.4f} ({confidence}, m = {self.m})"

    def __repr__(self) -> str:
        return str(self)


def bound_row(
    index: int, estimate: Estimate, bounds: Mapping[BoundName, PacBayesBound], clean_error: float | None = None
) -> dict[str, Any]:
    """Return the row of an estimate and its bounds.

    Args:
        index: index of the labelling in its request.
        estimate: estimate of log P of the training labels.
        bounds: bounds from the estimate, the sharpest first.
        clean_error: bound on the error on uncorrupted labels, from the sharpest one; None if no labels are corrupted.

    Returns:
        JSON-compatible values.
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
    """Bounds of one labelling as sent, and log P of its labels.

    If several numbers of examples were requested, they are those of the largest one, and ``points`` has all of them.
    """

    @property
    def m(self) -> int | None:
        """Number of training examples; None without an estimate."""
        return self.row.get("m")

    @property
    def bounds(self) -> dict[BoundName, PacBayesBound]:
        """Bounds as from :func:`nngp_prior.pac_bayes_bounds`; empty without an estimate."""
        found = [PacBayesBound.model_validate(bound) for bound in self.row.get("bounds", [])]
        return {bound.name: bound for bound in found}

    @property
    def bound(self) -> float:
        """The sharpest bound, ``realizable``; NaN if there is none."""
        return self.row.get("bound", math.nan)

    @property
    def clean_error(self) -> float | None:
        """Bound on the error on uncorrupted labels; None if no labels are corrupted."""
        return self.row.get("clean_error")

    @property
    def points(self) -> list[BoundResult]:
        """One result for each requested number of examples, in increasing order."""
        return [BoundResult(point) for point in self.row["points"]] if "points" in self.row else [self]

    def __repr__(self) -> str:
        if not self.bounds:
            return super().__repr__()
        return f"labelling {self.labelling}: {self.bounds['realizable']}"


class BoundResults(Results[BoundResult]):
    """All bounds of a request, in the order of its labellings."""

    _one = BoundResult

    def to_pandas(self) -> Any:
        """Return a data frame with a row for each labelling and number of examples.

        Returns:
            a ``pandas.DataFrame``; log P in nats, bounds by name.
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
