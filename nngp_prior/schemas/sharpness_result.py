"""Measures of sharpness as JSON has them, and as clients read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nngp_prior.errors import NngpPriorError
from nngp_prior.schemas.result import optional
from nngp_prior.schemas.sharpness import Measurement, Report
from nngp_prior.schemas.text import number_of, short

_OF_NETWORK = ("training_loss", "training_error", "gradient_norm")


def sharpness_row(place: int, kind: str, report: Report) -> dict[str, Any]:
    """One measure.

    Args:
        place: of the measure in its request.
        kind: of the measure.
        report: its figures.

    Returns:
        what JSON can hold.
    """
    document = report.document()
    own = {name: document[name] for name in ("measurements", *_OF_NETWORK)}
    return {"place": place, "measure": kind, "status": "ok", "message": "", **own}


def refused_measure(place: int, kind: str, message: str) -> dict[str, Any]:
    """A measure that cannot be taken of the network or the data.

    Args:
        place: of the measure in its request.
        kind: of the measure.
        message: why, and what to do.

    Returns:
        as :func:`sharpness_row`, without figures.
    """
    return {"place": place, "measure": kind, "status": "invalid-measure", "message": message, "measurements": []}


class SharpnessResult:
    """One measure as it was sent.

    Args:
        row: as :func:`sharpness_row` or :func:`refused_measure` made it.

    Attributes:
        row: as above.
        measurements: its figures; none where the measure was refused.
    """

    def __init__(self, row: dict[str, Any]) -> None:
        self.row = row
        self.measurements = tuple(Measurement.model_validate(each) for each in row.get("measurements", ()))

    @property
    def measure(self) -> str | None:
        """Its kind; None where the worker crashed."""
        return self.row.get("measure")

    @property
    def status(self) -> str:
        """``ok``, each figure having a status of its own; or ``invalid-measure``, ``worker-crashed``."""
        return self.row["status"]

    @property
    def message(self) -> str:
        """What the status means, and what to try."""
        return self.row["message"]

    def __repr__(self) -> str:
        if self.status != "ok":
            return f"{self.measure or 'measure'} [{self.status}]"
        return "; ".join(map(str, self.measurements))


class SharpnessResults(list[SharpnessResult]):
    """All measures of a request, in their order.

    Args:
        rows: of the results, as JSON has them.
        about: what stands above them: network, data, loss, seed, versions.

    Attributes:
        about: as above.
    """

    def __init__(self, rows: Iterable[dict[str, Any]], about: Mapping[str, Any] | None = None) -> None:
        super().__init__(map(SharpnessResult, rows))
        self.about = dict(about or {})

    def __repr__(self) -> str:
        figures = ", ".join(each.name for result in self for each in result.measurements)
        return f"<SharpnessResults {number_of(len(self), 'measure')}: {short(figures)[1:-1]}>"

    def _repr_html_(self) -> str:
        return self.report._repr_html_() if any(result.status == "ok" for result in self) else ""

    @property
    def report(self) -> Report:
        """All figures, as :func:`nngp_prior.sharpness.measure` returns them; refused measures are not there.

        Raises:
            NngpPriorError: all measures were refused.
        """
        measured = [result for result in self if result.status == "ok"]
        if not measured:
            raise NngpPriorError(f"measures: none has a figure ({self[0].message if self else 'there are none'})")
        about = {name: self.about[name] for name in ("loss", "n", "parameters", "dtype", "seed", "versions")}
        network = {name: measured[0].row[name] for name in _OF_NETWORK}
        measurements = tuple(each for result in measured for each in result.measurements)
        return Report.model_validate({"measurements": measurements, **network, **about})

    def to_pandas(self) -> Any:
        """A data frame with a line for each figure.

        Returns:
            a ``pandas.DataFrame``.
        """
        pandas = optional("pandas", "pandas")
        columns = ("measure", "name", "value", "stderr", "status", "message", "gradients", "seconds")
        figures = (each for result in self for each in result.measurements)
        return pandas.DataFrame([{name: getattr(each, name) for name in columns} for each in figures], columns=columns)
