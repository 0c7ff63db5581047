"""Results of a study: rows of networks, and how well each quantity predicts generalization."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from typing_extensions import override

from nngp_prior import style
from nngp_prior.errors import InvalidInput, NngpPriorError
from nngp_prior.schemas.protocols import Marks, Protocol
from nngp_prior.schemas.quantities import Group
from nngp_prior.schemas.results.base import Row, finite
from nngp_prior.schemas.table import Column, Table, Tabular, columns_of
from nngp_prior.schemas.text import csv_text, number_of
from nngp_prior.schemas.titles import in_words

STUDY = "study"  # the last row of a request for a study: what follows from all tasks
REPORTS = {"html": "text/html", "markdown": "text/markdown", "csv": "text/csv"}
"""Media types of reports by name; ``csv``: the rows."""
_NOT_FINITE = ("NaN", "Infinity", "-Infinity")


class Coefficient(NamedTuple):
    """A coefficient with an interval.

    Attributes:
        value: the coefficient; NaN if it is undefined.
        low: lower end of the bootstrap interval.
        high: upper end.
    """

    value: float
    low: float
    high: float


class SignError(NamedTuple):
    """Distribution over environments of the probability that a quantity orders two settings wrongly.

    Attributes:
        environments: number of environments.
        mean: mean sign error.
        median: median.
        upper: 90 % quantile.
        worst: largest sign error.
    """

    environments: int
    mean: float
    median: float
    upper: float
    worst: float


@dataclass(frozen=True)
class Verdict:
    """How well one quantity predicts the test accuracy over the networks of a study.

    Attributes:
        name: name of the quantity.
        expected: sign that the correlation is expected to have: +1 for log P, -1 for sharpness; 0 if none is.
        group: log probability, other quantity of the prior, or flatness.
        networks: number of networks with a value and a test error.
        missing: number of networks without one.
        scale: ``log10`` if Pearson's coefficients are of the logarithm of the (positive) quantity, else ``linear``.
        pearson: Pearson's r with the test accuracy.
        spearman: Spearman's ρ.
        kendall: Kendall's τ.
        partial: partial correlation (Pearson) given the training loss.
        gap: Kendall's τ with the generalization gap, test minus training error, where the opposite sign is expected.
        granulated: granulated Kendall coefficient Ψ.
        along: ψ of each axis.
        information: normalised conditional mutual information.
        sign_error: distribution of the sign error over environments.
        published: published coefficients, if the protocol has some.
    """

    name: str
    expected: int
    group: Group
    networks: int
    missing: int
    scale: str
    pearson: Coefficient
    spearman: Coefficient
    kendall: Coefficient
    partial: Coefficient
    gap: float
    granulated: float
    along: dict[str, float]
    information: float
    sign_error: SignError
    published: Marks | None

    def as_json(self) -> dict[str, Any]:
        """Return JSON-compatible values; NaN is a string."""
        own = asdict(self)
        for name, value in own.items():
            if isinstance(value, Coefficient | SignError):
                own[name] = value._asdict()
        return finite({**own, "published": None if self.published is None else self.published.as_json})

    @classmethod
    def of_json(cls, document: Mapping[str, Any]) -> Verdict:
        """Read a verdict.

        Args:
            document: values from :meth:`as_json`.

        Returns:
            the verdict.
        """
        own = numbers(document)
        for name in ("pearson", "spearman", "kendall", "partial"):
            own[name] = Coefficient(**own[name])
        own["sign_error"] = SignError(**own["sign_error"])
        published = own["published"]
        return cls(**{**own, "published": None if published is None else Marks.model_validate(published)})


def report_type(kind: str) -> str:
    """Return the media type of a report.

    Args:
        kind: name of the report.

    Returns:
        its media type.

    Raises:
        InvalidInput: if there is no such report.
    """
    if kind not in REPORTS:
        raise InvalidInput("kind", f"got {kind!r}", f"Choose one of {', '.join(REPORTS)}.")
    return REPORTS[kind]


class TaskResult(Row):
    """One task of a study as sent; the last one is what follows from all the others. Each network has its own status.

    Args:
        row: row of the result.

    Attributes:
        row: as given.
    """

    def __init__(self, row: dict[str, Any]) -> None:
        self.row = row

    @property
    def task(self) -> str | None:
        """``train``, ``measure``, ``prior`` or ``study``; None if the worker crashed."""
        return self.row.get("task")

    def __repr__(self) -> str:
        setting = ", ".join(f"{name} = {value}" for name, value in self.row.get("setting", {}).items())
        parts = [self.task or "task", self.row.get("quantity"), f"({setting})" if setting else None]
        parts.append(None if self.status == "ok" else f"[{self.status}]")
        return " ".join(filter(None, parts))


class ExperimentResults(Tabular):
    """Results of a study: in a notebook verdicts, as a data frame a row for each network.

    Args:
        row: row of the study, after those of its tasks.
        about: metadata: protocol, numbers of networks and inputs, versions.

    Attributes:
        about: metadata.
        rows: a row for each network: ``setting`` (its index), ``network``, the axes' values, the results of training,
            and for each quantity ``NAME``, ``NAME.stderr`` and ``NAME.status``. With a course, a row for each of its
            moments.
        verdicts: verdicts on all quantities with a value for at least four networks, the best predictor first.
        changes: of a study with a course: changes of each quantity by the rescaling.
        problems: explanations of what has no value.
        summary: the outcome in a few sentences.
    """

    def __init__(self, row: Mapping[str, Any], about: Mapping[str, Any] | None = None) -> None:
        if row.get("task") != STUDY:
            raise NngpPriorError(f"study: its results could not be put together ({row.get('message')})")
        self.about = dict(about or {})
        self.rows: tuple[dict[str, Any], ...] = tuple(map(numbers, row["rows"]))
        self.verdicts = tuple(map(self._read_verdict, row["verdicts"]))
        self.changes: tuple[dict[str, Any], ...] = tuple(map(numbers, row["changes"]))
        self.problems: tuple[str, ...] = tuple(row["problems"])
        self.summary: str = row["summary"]

    @staticmethod
    def _read_verdict(document: Mapping[str, Any]) -> Any:
        return Verdict.of_json(document)

    @property
    def protocol(self) -> Protocol:
        """The protocol."""
        return Protocol.model_validate(self.about["protocol"])

    @property
    def finished(self) -> int:
        """Number of networks with results."""
        return len({(row["setting"], row["network"]) for row in self.rows})

    @property
    def state(self) -> str:
        """Numbers of networks, or of functions and networks, in words."""
        return f"{number_of(self.finished, 'network')} of {self.protocol.networks:,}"

    @property
    def name(self) -> str:
        """Name of the protocol."""
        return self.about.get("protocol", {}).get("name", "study")

    def __len__(self) -> int:
        return len(self.rows)

    @override
    def _summary(self) -> str:
        best = self.verdicts[0] if self.verdicts else None
        found = "" if best is None else f": {best.name} predicts best, Kendall's τ = {best.kendall.value:.2f}"
        return f"{self.name}, {number_of(self.finished, 'network')}{found}"

    @override
    def _table(self) -> Table:
        return Table(columns_of(self.rows), self.rows)

    @override
    def _overview(self) -> Table:
        coefficients = {"kendall": "Kendall's τ", "spearman": "Spearman's ρ", "pearson": "Pearson's r"}
        columns = [Column("name", lambda verdict: verdict.name, "str", "quantity")]
        columns += [Column(name, with_interval(name), "str", heading) for name, heading in coefficients.items()]
        columns.append(Column("networks", lambda verdict: verdict.networks, "int64", "networks"))
        return Table(columns, self.verdicts)

    @override
    def _draw(self, ax: Any) -> None:
        draw_coefficients(ax, self.verdicts, "kendall")
        ax.set(xlabel="Kendall's τ with the test accuracy, bootstrap interval")
        ax.invert_yaxis()

    def to_csv(self) -> str:
        """Return the rows as CSV."""
        return csv_text(self.rows)

    def document(self) -> dict[str, Any]:
        """Return the results as JSON-compatible values."""
        verdicts = [each.as_json() for each in self.verdicts]
        found = {"summary": self.summary, "verdicts": verdicts, "changes": finite(list(self.changes))}
        found["problems"] = list(self.problems)
        return {**self.about, **found, "rows": finite(list(self.rows))}


def draw_coefficients(ax: Any, verdicts: Sequence[Any], kind: Literal["pearson", "spearman", "kendall"]) -> None:
    """Draw a coefficient of each quantity with its interval, and the published one; a cross has the unexpected sign.

    Args:
        ax: axes of matplotlib.
        verdicts: verdicts, the first at 0.
        kind: name of the coefficient.
    """
    for place, verdict in enumerate(verdicts):
        value, low, high = getattr(verdict, kind)
        published = getattr(verdict.published, kind, None)
        as_expected = value * verdict.expected >= 0
        colour = style.INK if as_expected else style.ACCENT
        ax.plot([low, high], [place, place], color=colour, lw=1.6)
        ax.plot(value, place, "o" if as_expected else "X", color=colour, ms=5.5)
        if published is not None:
            ax.plot(published, place, "D", mfc="none", mec="black", ms=7)
    ax.axvline(0, color="grey", lw=0.8)
    ax.set(xlim=(-1.05, 1.05))
    ax.set_yticks(range(len(verdicts)), [in_words(verdict.name) for verdict in verdicts])


def with_interval(name: str) -> Callable[[Any], str]:
    """Return the text of a coefficient of a verdict, with its interval."""

    def text(verdict: Any) -> str:
        coefficient: Coefficient = getattr(verdict, name)
        return f"{coefficient.value:.3f} ({coefficient.low:.2f} … {coefficient.high:.2f})"

    return text


def numbers(value: Any) -> Any:
    """Decode the strings that stand for numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {name: numbers(part) for name, part in value.items()}
    return float(value) if isinstance(value, str) and value in _NOT_FINITE else value
