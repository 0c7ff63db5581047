"""Architectures compared by log P of the training labels, and their JSON format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from pydantic import TypeAdapter
from typing_extensions import override

from nngp_prior import style
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.results.base import DELTA, Result, Row, row_of
from nngp_prior.schemas.results.bound import PacBayesBound
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.results.posterior import VoteError
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.inequality import BoundName
from nngp_prior.schemas.table import Column, Table, Tabular
from nngp_prior.schemas.text import number_of
from nngp_prior.schemas.titles import network

PER_ARCHITECTURE = 2  # candidates: σ_w and σ_b as given, and optimised
_ARCHITECTURE: TypeAdapter[Architecture] = TypeAdapter(Architecture)


@dataclass(frozen=True)
class Candidate:
    """An architecture and its log P of the training labels.

    Attributes:
        architecture: the architecture.
        optimised: True if σ_w and σ_b maximise EP's log Z; False as given.
        log_p: estimate of log P of the training labels.
        test_error: error of the posterior's vote at the test inputs, if there are any.
    """

    architecture: Architecture
    optimised: bool
    log_p: Estimate
    test_error: VoteError | None = None

    @property
    def title(self) -> str:
        """Architecture, and if σ_w and σ_b are those of the request."""
        return f"{network(self.architecture)}, {'optimised' if self.optimised else 'as given'}"

    def __repr__(self) -> str:
        error = "" if self.test_error is None else f", {self.test_error}"
        return f"<{network(self.architecture)}: {self.log_p}{error}>"


class Selection(Tabular, list[Candidate]):
    """Candidates, the largest log P first; the data frame has a row for each.

    Args:
        candidates: the candidates.
        choices: number of values that the choice could have had.
        about: metadata of a request's results: number of inputs, data set, estimator, seed, versions.
        problems: why a request's candidates have no result, one message for each of these.

    Attributes:
        choices: number of values that the choice could have had.
        about: metadata; empty for results of the library.
        problems: messages; empty for results of the library.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        choices: int,
        *,
        about: Mapping[str, Any] | None = None,
        problems: Iterable[str] = (),
    ) -> None:
        super().__init__(sorted(candidates, key=lambda each: -each.log_p.value))
        self.choices, self.about, self.problems = choices, dict(about or {}), tuple(problems)

    @classmethod
    def of_rows(cls, rows: Iterable[dict[str, Any]], about: Mapping[str, Any]) -> Self:
        """Read the results of a request.

        Args:
            rows: rows from :func:`candidate_row`, or refused ones.
            about: metadata of the results, with ``choices``.

        Returns:
            the candidates. If the optimised σ_w and σ_b are those given, there is one for both.
        """
        found: dict[tuple[int, Architecture], Candidate] = {}
        problems = []
        for result in map(CandidateResult, rows):
            if result.candidate is None:
                problems.append(f"{result!r}: {result.message}")
            else:
                member = result.row["candidate"] // PER_ARCHITECTURE
                found.setdefault((member, result.candidate.architecture), result.candidate)
        return cls(list(found.values()), about["choices"], about=about, problems=problems)

    @property
    def best(self) -> Architecture:
        """Architecture of the largest log P; :class:`nngp_prior.errors.InvalidInput` if no candidate has a result."""
        return self._first.architecture

    @property
    def _first(self) -> Candidate:
        if not self:
            raise InvalidInput("family", "no candidate has a result", f"{'; '.join(self.problems)}.")
        return self[0]

    def bounds(self, *, delta: float = 0.05, **options: Any) -> dict[BoundName, PacBayesBound]:
        """Compute PAC-Bayes bounds for the best architecture, which account for its choice by the training labels.

        Args:
            delta: probability with which a bound may fail.
            **options: as for :func:`nngp_prior.pac_bayes_bounds`.

        Returns:
            bounds by name, each computed with ``delta / choices`` for one choice, so that all hold with ``delta``.
        """
        from nngp_prior.prior.pac_bayes import pac_bayes_bounds  # here: clients load nothing that computes

        single = pac_bayes_bounds(self._first.log_p, delta=delta / self.choices, **options)
        return {name: bound.model_copy(update=self._over_all(bound)) for name, bound in single.items()}

    def _over_all(self, bound: PacBayesBound) -> dict[str, float]:
        """Return the probabilities of failure of a bound over all choices (union bound)."""
        return {name: getattr(bound, name) * self.choices for name in ("delta", "delta_estimator")}

    @override
    def _summary(self) -> str:
        without = f", {len(self.problems)} without a result" if self.problems else ""
        best = f"; best: {self[0]!r}" if self else ""
        return f"{number_of(len(self), 'candidate')}{without}{best}"

    @override
    def _table(self) -> Table:
        columns = [
            Column("architecture", lambda each: network(each.architecture), "str", "architecture"),
            Column("weight_std", lambda each: each.architecture.weight_std, heading="σ_w", form=".4g"),
            Column("bias_std", lambda each: each.architecture.bias_std, heading="σ_b", form=".4g"),
            Column("optimised", lambda each: each.optimised, "bool", "optimised"),
            Column("log_p", lambda each: each.log_p.value, heading="log P (nats)", form=".2f"),
            Column("stderr", lambda each: each.log_p.stderr, heading="s.e.", form=".2g"),
            Column("lower_bound", lambda each: each.log_p.lower_bound(DELTA), heading="lower bound", form=".2f"),
            Column("test_error", lambda each: each.test_error and each.test_error.value, heading="test error"),
            Column("status", lambda each: each.log_p.status, "str", "status"),
            Column("message", lambda each: each.log_p.message, "str", "message"),
            Column("seconds", lambda each: each.log_p.seconds),
        ]
        return Table(columns, self)

    @override
    def _draw(self, ax: Any) -> None:
        tested = all(each.test_error is not None for each in self)
        for optimised, colour, label in ((False, style.INK, "as given"), (True, style.ACCENT, "optimised")):
            some = [(i, each) for i, each in enumerate(self) if each.optimised is optimised]
            x = [each.test_error.value if tested and each.test_error else i for i, each in some]
            ax.plot(x, [each.log_p.value for _, each in some], "o", color=colour, label=label)
        ax.set_xlabel("test error" if tested else "candidate")
        ax.set_ylabel("log P(S) (nats)")
        ax.legend()


def candidate_row(index: int, candidate: Candidate) -> dict[str, Any]:
    """Return the row of one candidate.

    Args:
        index: index of the candidate in its request: 2 i for architecture i as given, 2 i + 1 for the optimised one.
        candidate: the candidate.

    Returns:
        JSON-compatible values: the architecture, the estimate as in :func:`row_of`, and the test error.
    """
    estimate = row_of(index, candidate.log_p)
    del estimate["labelling"]
    return {
        "candidate": index,
        "architecture": candidate.architecture.model_dump(mode="json"),
        "optimised": candidate.optimised,
        **estimate,
        "test_error": None if candidate.test_error is None else asdict(candidate.test_error),
    }


class CandidateResult(Row):
    """One candidate as sent.

    Args:
        row: row from :func:`candidate_row`, or a refused one.

    Attributes:
        row: row of the result.
        candidate: the candidate; None if it has no result.
    """

    def __init__(self, row: dict[str, Any]) -> None:
        self.row = row
        log_p = Result(row).estimate
        self.candidate = None
        if log_p is not None:
            error = None if row["test_error"] is None else VoteError(**row["test_error"])
            architecture = _ARCHITECTURE.validate_python(row["architecture"])
            self.candidate = Candidate(architecture, row["optimised"], log_p, error)

    def __repr__(self) -> str:
        return f"candidate [{self.status}]" if self.candidate is None else repr(self.candidate)
