"""Results as tables: data frames, HTML for notebooks, and plots."""

from __future__ import annotations

import html
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple, Protocol

from nngp_prior import style
from nngp_prior.extras import import_from

SHOWN = 20  # rows of a table in a notebook
_LONGEST = 200  # characters of a cell
_FORMS = {"float64": ".4f", "int64": ","}


class Column(NamedTuple):
    """Column of a table.

    Attributes:
        name: name in data frames.
        value: function from the object of a row to its value; None if there is no value.
        dtype: type in data frames; integers and booleans have a value in each row.
        heading: heading in notebooks, with the unit; empty for a column of data frames alone.
        form: format in notebooks; default: ``.4f`` and ``,`` for numbers.
    """

    name: str
    value: Callable[[Any], Any]
    dtype: Literal["float64", "int64", "bool", "str", "datetime64[ns, UTC]"] = "float64"
    heading: str = ""
    form: str = ""

    def cell(self, row: Any) -> str:
        """Return the text of a cell; empty if there is no value."""
        value = self.value(row)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return ""
        text = format(value, self.form or _FORMS.get(self.dtype, ""))
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


class _Rows(Protocol):
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...


class Table(NamedTuple):
    """A table.

    Attributes:
        columns: columns, in order.
        rows: an object per row.
    """

    columns: Sequence[Column]
    rows: _Rows

    def to_pandas(self) -> Any:
        """Return the table as a ``pandas.DataFrame``; NaN is no number, and an empty text no text."""
        pandas = import_from("notebooks", "pandas")
        columns = {}
        for column in self.columns:
            values = [column.value(row) for row in self.rows]
            if column.dtype == "str":
                values = ["" if value is None else value for value in values]
            columns[column.name] = pandas.Series(values, dtype=column.dtype)
        return pandas.DataFrame(columns)

    def to_html(self) -> str:
        """Return the first rows and the number of the others as HTML; columns without values are omitted."""
        rows = list(islice(self.rows, SHOWN))
        cells = {each: [each.cell(row) for row in rows] for each in self.columns if each.heading}
        filled = {each: texts for each, texts in cells.items() if any(texts)}
        lines = [_line("th", [(each, each.heading) for each in filled])]
        lines += [_line("td", zip(filled, texts, strict=True)) for texts in zip(*filled.values(), strict=True)]
        left = len(self.rows) - len(rows)
        return f"<table>{''.join(lines)}</table>{f'<p>… and {left:,} more</p>' if left else ''}"


class Tabular(ABC):
    """Result that notebooks show as a table.

    A subclass has a summary of one line, a table and a plot; its ``repr``, HTML and data frame follow from these.
    """

    @abstractmethod
    def _summary(self) -> str:
        """Return the result in one line."""

    @abstractmethod
    def _table(self) -> Table:
        """Return all rows."""

    def _overview(self) -> Table:
        """Return the table for notebooks."""
        return self._table()

    @abstractmethod
    def _draw(self, ax: Any) -> None:
        """Draw the result on axes of matplotlib."""

    def to_pandas(self) -> Any:
        """Return a data frame with a row for each row of the table in a notebook, and typed columns.

        Returns:
            a ``pandas.DataFrame``. Log probabilities are in nats; NaN is no value.

        Raises:
            MissingExtra: if pandas is not installed.
        """
        return self._table().to_pandas()

    def plot(self, ax: Any = None) -> Any:
        """Plot the result with its error bars.

        Args:
            ax: matplotlib axes; default: new ones.

        Returns:
            the axes.

        Raises:
            MissingExtra: if matplotlib is not installed.
        """
        pyplot = import_from("plots", "matplotlib.pyplot")
        if ax is not None:
            self._draw(ax)
            return ax
        with pyplot.rc_context(style.RC):
            ax = pyplot.subplots(layout="constrained")[1]
            self._draw(ax)
        return ax

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._summary()}>"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self._summary())}</p>{self._overview().to_html()}"


def columns_of(rows: Sequence[Mapping[str, Any]], shown: Iterable[str] = ()) -> list[Column]:
    """Return the columns of rows that are mappings, in order of first appearance.

    Args:
        rows: values by column.
        shown: names of columns for notebooks; default: all.

    Returns:
        columns of integers or booleans if all rows have one, else of numbers, else of texts.
    """
    headings = set(shown)

    def column(name: str) -> Column:
        values = [row.get(name) for row in rows]
        given = [value for value in values if value is not None]
        of = {bool if isinstance(value, bool) else type(value) for value in given}
        heading = name if name in headings or not headings else ""
        if of == {bool} and len(given) == len(values):
            return Column(name, lambda row: row[name], "bool", heading)
        if of == {int} and len(given) == len(values):
            return Column(name, lambda row: row[name], "int64", heading)
        if of <= {int, float}:
            return Column(name, lambda row: row.get(name), "float64", heading, ".6g")
        return Column(name, lambda row: _text(row.get(name)), "str", heading)

    return [column(name) for name in dict.fromkeys(name for row in rows for name in row)]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _line(tag: str, cells: Iterable[tuple[Column, str]]) -> str:
    return f"<tr>{''.join(_tag(tag, column, text) for column, text in cells)}</tr>"


def _tag(tag: str, column: Column, text: str) -> str:
    side = "left" if column.dtype in ("str", "bool") else "right"
    return f'<{tag} style="text-align: {side}">{html.escape(text)}</{tag}>'
