"""Output: results on standard output; progress, notes and errors on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table

from nngp_prior.errors import InvalidInput
from nngp_prior.extras import require_extra
from nngp_prior.numerics.whole_files import writable
from nngp_prior.progress import Display
from nngp_prior.schemas.results.base import LEVEL, Result, finite
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.text import csv_text, nats
from nngp_prior.style import SUFFIXES

console = Console()
notes = Console(stderr=True)


def fail(message: str) -> NoReturn:
    """Print an error and exit with status 2."""
    notes.print(f"[bold red]error[/]: {_plain(message)}", soft_wrap=True, highlight=False)
    sys.exit(2)


def note(message: str) -> None:
    """Print a note on standard error."""
    notes.print(_plain(message), soft_wrap=True, highlight=False)


def table(*headings: str, title: str | None = None, rows: str = "labelling") -> Table:
    """Create a table; ``rows`` names what its rows are."""
    made = Table(
        title=title,
        box=box.SIMPLE_HEAD,
        header_style="bold",
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title_justify="left",
    )
    made.add_column(f"\n{rows}", no_wrap=True)
    for heading in headings:
        made.add_column(heading, justify="right", no_wrap=True)
    return made


def print_table(table: Table) -> None:
    """Print a table; on a narrow screen in several parts, each with the first column."""
    first, *others = table.columns
    columns = [first]
    for column in others:
        if len(columns) > 1 and _width(_of(table, [*columns, column])) > console.width:
            _print_whole(_of(table, columns))
            columns = [first]
        columns.append(column)
    _print_whole(table if len(columns) == len(table.columns) else _of(table, columns))


def _of(table: Table, columns: Sequence[Column]) -> Table:
    """Return a table with some columns of another one."""
    title = table.title if columns[1] is table.columns[1] else None
    part = Table(title=title, box=table.box, header_style="bold", padding=table.padding, title_justify="left")
    part.show_header, part.pad_edge = table.show_header, table.pad_edge
    for column in columns:
        part.add_column(column.header, justify=column.justify, no_wrap=column.no_wrap)
    for cells in zip(*(column.cells for column in columns), strict=True):
        part.add_row(*cells)
    return part


def _width(table: Table) -> int:
    return Measurement.get(console, console.options.update(max_width=10_000), table).maximum


def _print_whole(table: Table) -> None:
    Console(width=max(console.width, _width(table))).print(table)


def print_results(named: Sequence[tuple[str, Estimate | Result]], delta: float) -> None:
    """Print a table of results, and notes on them.

    Args:
        named: names of labellings, and their results.
        delta: δ of the lower bounds.
    """
    made = table("log P ± s.e.\n(nats)", "95 % interval\n(nats)", "lower bound*\n(nats)", "\nstatus", "\ns")
    for name, result in named:
        interval = result.interval(LEVEL)
        made.add_row(
            name,
            nats(result.value, result.stderr),
            "–" if interval is None else " … ".join(nats(end, result.stderr, False) for end in interval),
            nats(result.lower_bound(delta)),
            result.status,
            f"{result.seconds:.1f}",
        )
    print_table(made)
    if any(result.stderr for _, result in named):
        console.print(f"* holds with probability {1 - delta:g}")
    for name, result in named:
        if result.message:
            note(f"{name}: {result.message}")


def print_json(value: Any) -> None:
    """Print a JSON document and nothing else."""
    print(json_text(value))


def print_rows(document: dict[str, Any], rows: str, *, csv: bool) -> None:
    """Print a JSON document, or the rows of its table alone as CSV.

    Args:
        document: the whole document.
        rows: key of the rows.
        csv: True for CSV; columns of nested values have names such as ``lower_bound.log_p`` and ``interval.0``.
    """
    if not csv:
        print_json(document)
        return
    sys.stdout.write(csv_text([dict(_flat(finite(row))) for row in document[rows]]))


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the numbers and strings of a nested value with their paths."""
    if isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in parts:
            yield from _flat(part, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def json_text(value: Any) -> str:
    """Serialise as JSON; infinities and NaN, for which JSON has no numbers, become strings."""
    return json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False)


def require_plots(option: str, path: Path) -> None:
    """Check before the computation that a plot can be written to a file.

    Args:
        option: option that names the file.
        path: path of the file.

    Raises:
        MissingExtra: if matplotlib is not installed.
        InvalidInput: if the file's extension is not supported, or it cannot be written.
    """
    require_extra("plots")
    if path.suffix not in SUFFIXES:
        raise InvalidInput(option, f"got {str(path)!r}", f"Name a file that ends in {', '.join(SUFFIXES)}.")
    if path.is_dir():
        raise InvalidInput(option, f"{path} is a folder", "Name a file.")
    writable(option, path)


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


class ProgressBars(Display):
    """Progress bars of a command; none with ``--quiet``."""

    def __init__(self) -> None:
        super().__init__(notes, quiet=_Shown.quiet)


class _Shown:
    """Progress display of the current command."""

    quiet = False


def set_quiet(quiet: bool) -> bool:
    """Switch the progress display off or on.

    Args:
        quiet: True for no progress.

    Returns:
        ``quiet``.
    """
    _Shown.quiet = quiet
    return quiet
