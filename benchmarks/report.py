"""Tables for people (Markdown) and for programs (JSON)."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

RESULTS = Path(__file__).parent / "results"


class Column(NamedTuple):
    """One column of a printed table.

    Attributes:
        heading: what is printed above it.
        key: of the rows' values.
        spec: how a number is formatted; three significant digits if empty.
        error: key of a standard error to print behind the value.
    """

    heading: str
    key: str
    spec: str = ""
    error: str = ""


@dataclass(frozen=True)
class Table:
    """What one part has measured; JSON holds all values of the rows, the printed table those of the columns."""

    title: str
    columns: list[Column]
    rows: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)


def say(what: str) -> None:
    """Tell the person who waits what is being measured."""
    print(f"… {what}", file=sys.stderr, flush=True)


def as_markdown(table: Table) -> str:
    """A table with aligned columns, and its notes below."""
    cells = [[column.heading for column in table.columns]]
    cells += [[_cell(row, column) for column in table.columns] for row in table.rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.columns))]
    lines = ["| " + " | ".join(text.rjust(w) for text, w in zip(row, widths, strict=True)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|")
    return "\n".join([f"### {table.title}", "", *lines, "", *(f"- {note}" for note in table.notes), ""])


def write(stem: str, document: dict[str, Any], tables: list[Table]) -> None:
    """Write ``results/<stem>.json`` and ``.md``."""
    RESULTS.mkdir(exist_ok=True)
    content = document | {"tables": [{"title": t.title, "notes": t.notes, "rows": t.rows} for t in tables]}
    text = json.dumps(_plain(content), indent=1, ensure_ascii=False, allow_nan=False)
    (RESULTS / f"{stem}.json").write_text(text + "\n", encoding="utf-8")
    head = [f"# Benchmarks, {stem}", ""]
    head += [f"- {name}: {value}" for name, value in document["machine"].items()]
    head += [f"- times: {document['timing']}", "- log P in nats; ± is one standard error", ""]
    (RESULTS / f"{stem}.md").write_text("\n".join([*head, *map(as_markdown, tables)]), encoding="utf-8")


def _cell(row: dict[str, Any], column: Column) -> str:
    value = row.get(column.key)
    if value is None:
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    error = row.get(column.error)
    if error is not None and 0 < error < math.inf:
        digits = min(max(1 - math.floor(math.log10(error)), 1), 6)
        return f"{value:.{digits}f} ± {error:.{digits}f}"
    if column.spec:
        return format(value, column.spec)
    return f"{value:,.0f}" if 100 <= abs(value) < math.inf else f"{value:.3g}"


def _plain(value: Any) -> Any:
    """The same as JSON knows it: no NumPy types, and numbers that are not finite as strings."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
