"""Results of a study of functions: how well each quantity predicts their frequencies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from nngp_prior.schemas.frequencies import FrequencyMarks, FrequencyProtocol
from nngp_prior.schemas.results.base import finite
from nngp_prior.schemas.results.experiment import (
    Coefficient,
    ExperimentResults,
    draw_coefficients,
    numbers,
    with_interval,
)
from nngp_prior.schemas.table import Column, Table
from nngp_prior.schemas.text import number_of


@dataclass(frozen=True)
class FrequencyVerdict:
    """How well one quantity predicts the frequencies of the functions of one setting.

    Attributes:
        name: name of the quantity.
        setting: index of the setting.
        where: values of its axes, in words; empty if there are none.
        expected: sign that the correlation with log frequency is expected to have: +1 for log P, -1 for complexity.
        functions: number of functions with a value.
        missing: number of functions without one.
        pearson: Pearson's r with log frequency.
        spearman: Spearman's ρ.
        kendall: Kendall's τ.
        attainable: τ that is expected if frequencies are proportional to P: errors of counting and of log P keep it
            below 1. NaN for complexity.
        slope: of log frequency as a function of log P: 1 if frequencies are proportional to P. NaN for complexity.
        bias: mean of log P minus log frequency, nats.
        scatter: standard deviation about the line beyond the errors of counting and of log P, nats.
        total_frequency: sum of the frequencies of these functions.
        total_p: sum of their P; NaN for complexity.
        published: published coefficients, if the protocol has some.
    """

    name: str
    setting: int
    where: str
    expected: int
    functions: int
    missing: int
    pearson: Coefficient
    spearman: Coefficient
    kendall: Coefficient
    attainable: float
    slope: Coefficient
    bias: Coefficient
    scatter: Coefficient
    total_frequency: float
    total_p: float
    published: FrequencyMarks | None

    def as_json(self) -> dict[str, Any]:
        """Return JSON-compatible values; NaN is a string."""
        own = {name: v._asdict() if isinstance(v, Coefficient) else v for name, v in self.__dict__.items()}
        return finite({**own, "published": None if self.published is None else self.published.as_json})

    @classmethod
    def of_json(cls, document: Mapping[str, Any]) -> FrequencyVerdict:
        """Read a verdict.

        Args:
            document: values from :meth:`as_json`.

        Returns:
            the verdict.
        """
        own = numbers(document)
        for name in ("pearson", "spearman", "kendall", "slope", "bias", "scatter"):
            own[name] = Coefficient(**own[name])
        published = own["published"]
        return cls(**{**own, "published": None if published is None else FrequencyMarks.model_validate(published)})


class FrequencyResults(ExperimentResults):
    """Results of a study of functions.

    Args:
        row: row of the study, after those of its tasks.
        about: metadata: protocol, numbers of networks and inputs, versions.

    Attributes:
        rows: a row for each function, as of :class:`nngp_prior.experiments.FrequencyStudy`.
        verdicts: verdicts on estimates of log P in the protocol's order, then on complexities.
    """

    verdicts: tuple[FrequencyVerdict, ...]  # pyright: ignore[reportIncompatibleVariableOverride]

    @staticmethod
    @override
    def _read_verdict(document: Mapping[str, Any]) -> Any:
        return FrequencyVerdict.of_json(document)

    @property
    @override
    def protocol(self) -> FrequencyProtocol:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The protocol."""
        return FrequencyProtocol.model_validate(self.about["protocol"])

    @property
    @override
    def state(self) -> str:
        return f"{number_of(len(self), 'function')} of {number_of(self.protocol.networks, 'network')}"

    @override
    def _summary(self) -> str:
        first = self.verdicts[0] if self.verdicts else None
        found = "" if first is None else f": log frequency has slope {first.slope.value:.2f} against {first.name}"
        return f"{self.name}, {self.state}{found}"

    @override
    def _overview(self) -> Table:
        coefficients = {"kendall": "Kendall's τ", "pearson": "Pearson's r", "slope": "slope", "bias": "bias (nats)"}
        columns = [
            Column("name", lambda verdict: verdict.name, "str", "quantity"),
            Column("where", lambda verdict: verdict.where, "str", "setting"),
            *(Column(name, with_interval(name), "str", heading) for name, heading in coefficients.items()),
            Column("functions", lambda verdict: verdict.functions, "int64", "functions"),
        ]
        return Table(columns, self.verdicts)

    @override
    def _draw(self, ax: Any) -> None:
        draw_coefficients(ax, self.verdicts, "kendall")
        ax.set(xlabel="Kendall's τ with log frequency, bootstrap interval")
        ax.invert_yaxis()


def results_of_study(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> ExperimentResults:
    """Read all rows of a request for a study, the last of which is the study's.

    Args:
        rows: rows.
        about: metadata with the protocol.

    Returns:
        results of a study of networks or of functions.
    """
    kind = FrequencyResults if about["protocol"].get("kind") == "frequencies" else ExperimentResults
    return kind(rows[-1], about)
