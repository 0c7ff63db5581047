"""Measurements of networks: single quantities, reports on networks, and readers of results in clients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Literal

import numpy as np
from pydantic import ConfigDict, Field
from typing_extensions import override

from nngp_prior import style
from nngp_prior.errors import NngpPriorError
from nngp_prior.schemas.base import Specification
from nngp_prior.schemas.results.base import Row, finite, set_title
from nngp_prior.schemas.specs.training import LossName
from nngp_prior.schemas.table import Column, Table, Tabular
from nngp_prior.schemas.text import differing, number_of, short

_OF_NETWORK = ("training_loss", "training_error", "gradient_norm")
Status = Literal["ok", "not-finite", "not-converged", "indefinite", "zero-gradient", "degenerate"]


class _Figures(Specification):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True, ser_json_inf_nan="strings")


class Measurement(_Figures):
    """One quantity of one network.

    Attributes:
        measure: kind of the measure.
        name: name of the quantity: ``lambda_max``, ``trace``, ``ggn_trace``, ``trace[dense 1]``, …
        value: value of the quantity; NaN if there is none, for a reason given by the status.
        stderr: standard error; None if nothing is random, or the method has none.
        status: ``ok``; ``not-finite`` (loss, gradient or quantity); ``not-converged``; ``indefinite`` (a matrix is not
            positive definite as required); ``zero-gradient``; ``degenerate`` (the quantity is meaningless here).
        message: meaning of the status here, and remedy; may be empty.
        options: options of the measure.
        diagnostics: diagnostics of the method.
        gradients: cost of the measure with all its quantities, in gradients of the whole data set; a product with the
            Hessian counts as two, a loss without its gradient as a third.
        seconds: wall time of the measure with all its quantities in seconds, including compilation.
    """

    measure: str
    name: str
    value: float
    stderr: float | None = None
    status: Status = "ok"
    message: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    diagnostics: dict[str, Any] = Field(default_factory=dict)
    gradients: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        error = "" if self.stderr is None else f" ± {self.stderr:.2g}"
        note = "" if self.status == "ok" else f" [{self.status}]"
        return f"{self.name} = {self.value:.6g}{error}{note}"

    def __repr__(self) -> str:
        return str(self)


class Report(Tabular, _Figures, Mapping[str, Measurement]):
    """Measurements of one network on one data set, by name.

    Names shared by several quantities are extended by the options that differ: ``keskar(epsilon=0.001)``.

    Attributes:
        measurements: measurements in the order of the measures; a measure may have several.
        loss: name of the loss.
        training_loss: mean loss over the data.
        training_error: fraction of the data with y f ≤ 0.
        gradient_norm: Euclidean norm of the mean loss's gradient.
        n: number of inputs.
        parameters: number of parameters P.
        dtype: dtype of all computations.
        seed: random seed of random vectors.
        versions: versions of packages.
    """

    measurements: tuple[Measurement, ...]
    loss: LossName
    training_loss: float
    training_error: float
    gradient_norm: float
    n: int
    parameters: int
    dtype: Literal["float64", "float32"]
    seed: int
    versions: dict[str, str]

    @cached_property
    def _by_name(self) -> dict[str, Measurement]:
        return _named(self.measurements)

    def __getitem__(self, name: str) -> Measurement:
        if name in self._by_name:
            return self._by_name[name]
        raise KeyError(f"no quantity is called {name!r}; there are: {', '.join(self._by_name)}")

    def __iter__(self) -> Iterator[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def document(self) -> dict[str, Any]:
        """Return the report as JSON-compatible values; infinities and NaN are strings."""
        return finite(self.model_dump(mode="json"))

    def __str__(self) -> str:
        return "\n".join(map(str, self.measurements))

    @override
    def _summary(self) -> str:
        names = ", ".join(each.name for each in self.measurements)
        of = f"{number_of(self.parameters, 'parameter')}, {number_of(self.n, 'input')}"
        return f"{of}, {self.loss} {self.training_loss:.4g}: {short(names)[1:-1]}"

    @override
    def _table(self) -> Table:
        return Table(_COLUMNS, list(self._by_name.items()))

    @override
    def _draw(self, ax: Any) -> None:
        _draw(ax, self._by_name)


def _named(measurements: Iterable[Measurement]) -> dict[str, Measurement]:
    """Return measurements by name; names of several are extended by the options that differ."""
    measurements = list(measurements)
    named: dict[str, Measurement] = {}
    for each in measurements:
        alike = [other.options for other in measurements if other.name == each.name]
        options = differing(each.options, alike)
        key = f"{each.name}({options})" if options else each.name
        repeated = sum(name.split(" #")[0] == key for name in named)
        named[f"{key} #{repeated + 1}" if repeated else key] = each
    return named


def _draw(ax: Any, named: Mapping[str, Measurement]) -> None:
    """Draw values with two standard errors, logarithmically unless one is not positive."""
    names = list(named)[::-1]  # the first at the top
    values = np.array([named[name].value for name in names])
    errors = 2 * np.array([named[name].stderr or 0.0 for name in names])
    at = np.arange(len(names))
    style.points(ax, at, values, values - errors, values + errors, horizontal=True)
    finite = values[np.isfinite(values)]
    ax.set_yticks(at, names)
    ax.set(xlabel="value (in units of the quantity), ± 2 s.e.", ylim=(-0.5, len(names) - 0.5))
    if len(finite):
        smallest = float(np.abs(finite[finite != 0]).min(initial=1.0))
        ax.set_xscale("log") if finite.min() > 0 else ax.set_xscale("symlog", linthresh=smallest)
    ax.grid(axis="y", alpha=0.25)


def _of(name: str) -> Callable[[tuple[str, Any]], Any]:
    return lambda row: getattr(row[1], name, None)


_COLUMNS = (
    Column("measure", _of("measure"), "str"),
    Column("name", lambda row: row[0], "str", "quantity"),
    Column("value", _of("value"), heading="value", form=".6g"),
    Column("stderr", _of("stderr"), heading="s.e.", form=".2g"),
    Column("status", _of("status"), "str", "status"),
    Column("message", _of("message"), "str", "message"),
    Column("gradients", _of("gradients")),
    Column("seconds", _of("seconds")),
)
"""Columns of names with measurements, or with results that have none."""


def sharpness_row(place: int, kind: str, report: Report) -> dict[str, Any]:
    """Return the row of one measure.

    Args:
        place: index of the measure in its request.
        kind: kind of the measure.
        report: report with the quantities of the measure.

    Returns:
        JSON-compatible values.
    """
    document = report.document()
    own = {name: document[name] for name in ("measurements", *_OF_NETWORK)}
    return {"place": place, "measure": kind, "status": "ok", "message": "", **own}


def refused_measure(place: int, kind: str, message: str) -> dict[str, Any]:
    """Return the row of a measure that does not apply to the network or the data.

    Args:
        place: index of the measure in its request.
        kind: kind of the measure.
        message: reason and remedy.

    Returns:
        a row as from :func:`sharpness_row`, without quantities.
    """
    return {"place": place, "measure": kind, "status": "invalid-measure", "message": message, "measurements": []}


class SharpnessResult(Row):
    """One measure as sent. If its status is ``ok``, each quantity has one of its own.

    Args:
        row: row from :func:`sharpness_row` or :func:`refused_measure`.

    Attributes:
        row: row of the result.
        measurements: quantities of the measure; empty if it was refused.
    """

    def __init__(self, row: dict[str, Any]) -> None:
        self.row = row
        self.measurements = tuple(Measurement.model_validate(each) for each in row.get("measurements", ()))

    @property
    def measure(self) -> str | None:
        """Kind of the measure; None if the worker crashed."""
        return self.row.get("measure")

    def __repr__(self) -> str:
        if self.status != "ok":
            return f"{self.measure or 'measure'} [{self.status}]"
        return "; ".join(map(str, self.measurements))


class SharpnessResults(Tabular, list[SharpnessResult]):
    """All measures of a request, in order. The data frame has a row for each quantity, and for each refused measure.

    Args:
        rows: rows of the results.
        about: metadata: network, data, loss, seed, versions.

    Attributes:
        about: metadata.
    """

    def __init__(self, rows: Iterable[dict[str, Any]], about: Mapping[str, Any] | None = None) -> None:
        super().__init__(map(SharpnessResult, rows))
        self.about = dict(about or {})

    @override
    def _summary(self) -> str:
        figures = ", ".join(each.name for result in self for each in result.measurements)
        return f"{number_of(len(self), 'measure')}: {short(figures)[1:-1]}"

    @override
    def _table(self) -> Table:
        names = iter(self._by_name)
        rows: list[tuple[str, Measurement | SharpnessResult]] = []
        for result in self:
            rows += [(next(names), each) for each in result.measurements]
            rows += [] if result.measurements else [(result.measure or "", result)]
        return Table(_COLUMNS, rows)

    @override
    def _draw(self, ax: Any) -> None:
        _draw(ax, self._by_name)
        set_title(ax, self.about)

    @property
    def _by_name(self) -> dict[str, Measurement]:
        return _named(each for result in self for each in result.measurements)

    @property
    def report(self) -> Report:
        """Return all quantities, as from :func:`nngp_prior.sharpness.measure`, without refused measures.

        Raises:
            NngpPriorError: if all measures were refused.
        """
        measured = [result for result in self if result.status == "ok"]
        if not measured:
            raise NngpPriorError(f"measures: none has a figure ({self[0].message if self else 'there are none'})")
        about = {name: self.about[name] for name in ("loss", "n", "parameters", "dtype", "seed", "versions")}
        network = {name: measured[0].row[name] for name in _OF_NETWORK}
        measurements = tuple(each for result in measured for each in result.measurements)
        return Report.model_validate({"measurements": measurements, **network, **about})
