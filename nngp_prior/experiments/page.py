"""Parts of the page of a report: style, tables, figures, coefficients with intervals."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from nngp_prior.schemas.base import Specification
from nngp_prior.schemas.results.experiment import Coefficient
from nngp_prior.schemas.text import csv_text
from nngp_prior.versions import versions

_STYLE = """
:root { color-scheme: light dark; --ink: #1b2733; --paper: #ffffff; --faint: #667788; --line: #d8dee4;
  --wash: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e8ee; --paper: #14191f; --faint: #97a6b5; --line: #33404d; --wash: #1c232b; }
  figure svg { filter: invert(0.92) hue-rotate(180deg); }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 70rem; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin-top: 2.4rem; }
.about, .note, figcaption { color: var(--faint); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.88rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { border-bottom: 2px solid var(--line); }
td small { color: var(--faint); }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(21rem, 1fr)); gap: 1rem; }
figure { margin: 0.5rem 0; } figure svg { max-width: 100%; height: auto; }
pre { background: var(--wash); padding: 0.8rem; overflow-x: auto; font-size: 0.8rem; }
@media print {
  body { max-width: none; margin: 0; font-size: 11px; } .wide { overflow: visible; } figure, tr { break-inside: avoid; }
  table { font-size: 8.5px; } th, td { white-space: normal; padding: 0.2rem 0.35rem; } h2 { break-after: avoid; }
  pre { white-space: pre-wrap; font-size: 8px; } .grid { grid-template-columns: repeat(3, 1fr); }
}
"""


def page(title: str, parts: Iterable[str]) -> str:
    """Return a whole HTML file that needs no other.

    Args:
        title: title of the page.
        parts: HTML of its body, without the heading.

    Returns:
        HTML.
    """
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{escape(title)}</title>"
        f'<meta name=viewport content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{escape(title)}</h1>{''.join(parts)}</body></html>\n"
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[str | tuple[str, str]]]) -> str:
    """Return a table that scrolls if it is too wide.

    Args:
        headings: headings of the columns.
        rows: cells; of a pair, the second text is small, below the first.

    Returns:
        HTML.
    """

    def cell(content: str | tuple[str, str]) -> str:
        if isinstance(content, str):
            return f"<td>{escape(content)}</td>"
        return f"<td>{escape(content[0])}<br><small>{escape(content[1])}</small></td>"

    head = "".join(f"<th>{escape(name)}</th>" for name in headings)
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str | tuple[str, str]]]) -> list[str]:
    """Return the lines of a table; of a pair, the second text is in brackets."""

    def cell(content: str | tuple[str, str]) -> str:
        own, rest = (content, "") if isinstance(content, str) else content
        return (f"{own} ({rest})" if rest else own).replace("|", "\\|")

    return [
        f"| {' | '.join(map(cell, headings))} |",
        f"|{'---|' * len(headings)}",
        *(f"| {' | '.join(map(cell, row))} |" for row in rows),
    ]


def configuration(protocol: Specification) -> str:
    """Return the section with the protocol and the versions."""
    return (
        f"<h2>Configuration</h2><pre>{escape(protocol.model_dump_json(indent=2))}</pre>"
        f"<pre>{escape(json.dumps(versions(), indent=2))}</pre>"
    )


def drawn(path: Path, draw: Callable[[Path], list[dict[str, Any]]]) -> str:
    """Draw a figure, and write its data beside it.

    Args:
        path: path of the SVG file; the data have the suffix ``.csv``.
        draw: function that writes the figure and returns its data.

    Returns:
        SVG without header and metadata.
    """
    path.with_suffix(".csv").write_text(csv_text(draw(path)), encoding="utf-8")
    text = path.read_text(encoding="utf-8")
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)


def with_interval(coefficient: Coefficient, digits: int = 3) -> tuple[str, str]:
    """Return a coefficient and its interval as texts."""
    value, low, high = coefficient
    if math.isnan(value):
        return "–", ""
    return f"{value:.{digits}f}", "" if math.isnan(low) else f"{low:.2f} … {high:.2f}"
