"""The report of a study as HTML, one file that needs nothing else, and as Markdown."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from nngp_prior.experiments.analysis import Verdict, in_words, sentence, summary, verdicts
from nngp_prior.experiments.report import figures
from nngp_prior.experiments.statistics import Coefficient
from nngp_prior.experiments.study import Study
from nngp_prior.extras import require_extra
from nngp_prior.schemas.text import csv_text, number_of
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
@media print { body { max-width: none; margin: 0; } figure, tr { break-inside: avoid; } }
"""
_HEADINGS = (
    "quantity",
    "Kendall τ",
    "Spearman ρ",
    "Pearson r",
    "partial r",
    "Ψ",
    "CMI",
    "sign error",
    "published τ, ρ, r",
)


def write_report(study: Study) -> list[Verdict]:
    """Write ``report.html``, ``report.md``, ``verdicts.json``, and figures with their data, to the study's folder.

    Args:
        study: results.

    Returns:
        the verdicts on all quantities, the best predictor first.

    Raises:
        MissingExtra: if matplotlib is not installed.
    """
    require_extra("plots")
    found, folder = verdicts(study), study.folder / "figures"
    folder.mkdir(exist_ok=True)
    drawn: dict[str, str] = {}
    if found:
        drawn["coefficients"] = _drawn(folder / "coefficients.svg", lambda path: figures.coefficients(found, path))
    for verdict in found:
        name = re.sub(r"[^a-z0-9_]+", "-", verdict.name.lower()).strip("-")
        draw = functools.partial(figures.scatter, study, verdict)
        drawn[verdict.name] = _drawn(folder / f"{name}.svg", draw)
    (study.folder / "verdicts.json").write_text(json.dumps([each.as_json() for each in found], indent=2) + "\n")
    (study.folder / "report.md").write_text(_markdown(study, found), encoding="utf-8")
    (study.folder / "report.html").write_text(_html(study, found, drawn), encoding="utf-8")
    return found


def _drawn(path: Path, draw: Callable[[Path], list[dict[str, Any]]]) -> str:
    """Draw a figure, write its data beside it, and return it as SVG without header and metadata."""
    path.with_suffix(".csv").write_text(csv_text(draw(path)), encoding="utf-8")
    text = path.read_text(encoding="utf-8")
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)


def _title(study: Study) -> str:
    return study.protocol.title or study.protocol.name


def _state(study: Study) -> str:
    """Return the number of networks and the axes, in a sentence."""
    axes = " × ".join(f"{number_of(len(values), 'value')} of {name}" for name, values in study.protocol.axes.items())
    whole = f"{number_of(len(study.rows), 'network')}: {axes or 'one setting'}, {study.protocol.seeds} each"
    if len(study.rows) < study.total:
        whole += f" (unfinished: {study.total:,} in all)"
    ended = sum(row["status"] != "zero-error" for row in study.rows)
    return f"{whole}. " + (f"{number_of(ended, 'network')} did not reach zero training error. " if ended else "")


def _explanation(study: Study) -> str:
    level = f"{study.protocol.statistics.level:.0%}"
    return (
        "Coefficients are correlations with the test accuracy over networks: positive if larger values go with better "
        "generalization. log P should have a positive sign, sharpness a negative one. Pearson's r and the partial r "
        "(given the training loss) are of the logarithm of sharpness and of log P. "
        f"Ranges are {level} bootstrap intervals over settings. Ψ is the granulated Kendall coefficient, the mean over "
        "axes of τ along that axis alone. CMI is the conditional mutual information of the signs of differences, from "
        "0 (none) to 1. Sign error is the mean and worst probability of ordering two settings that differ in one axis "
        "wrongly: 0 is best, 0.5 is chance."
    )


def _cell(coefficient: Coefficient) -> tuple[str, str]:
    """Return a coefficient, and its interval."""
    if math.isnan(coefficient.value):
        return "–", ""
    interval = "" if math.isnan(coefficient.low) else f"{coefficient.low:.2f} … {coefficient.high:.2f}"
    return f"{coefficient.value:.3f}", interval


def _cells(verdict: Verdict) -> list[tuple[str, str]]:
    marks, error = verdict.published, verdict.sign_error
    published = () if marks is None else (marks.kendall, marks.spearman, marks.pearson)
    return [
        *map(_cell, (verdict.kendall, verdict.spearman, verdict.pearson, verdict.partial)),
        ("–" if math.isnan(verdict.granulated) else f"{verdict.granulated:.2f}", ""),
        ("–" if math.isnan(verdict.information) else f"{verdict.information:.2f}", ""),
        ("–", "") if not error.environments else (f"{error.mean:.2f}", f"worst {error.worst:.2f}"),
        (", ".join("–" if value is None else f"{value:.3g}" for value in published), ""),
    ]


def _html(study: Study, found: Sequence[Verdict], drawn: Mapping[str, str]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in _HEADINGS)
    rows = "".join(
        f"<tr><td>{escape(in_words(verdict.name))}<br><small>{verdict.networks} networks</small></td>"
        + "".join(f"<td>{value}<br><small>{escape(rest)}</small></td>" for value, rest in _cells(verdict))
        + "</tr>"
        for verdict in found
    )
    scatters = "".join(
        f"<figure>{drawn[verdict.name]}<figcaption>{escape(sentence(verdict))}</figcaption></figure>"
        for verdict in found
    )
    problems = "".join(f"<li>{escape(each)}</li>" for each in study.problems)
    sources = sorted({verdict.published.source for verdict in found if verdict.published is not None})
    published = f"<p class=note>Diamonds: published values ({escape('; '.join(sources))}).</p>" if sources else ""
    parts = [
        f"<h1>{escape(_title(study))}</h1><p class=about>{escape(study.protocol.about.strip())}</p>",
        f"<p>{escape(_state(study))}</p>",
        f"<h2>Which quantity predicts generalization?</h2><p><b>{escape(summary(found))}</b></p>"
        if found
        else "<p>Fewer than four networks are finished.</p>",
        f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>" if found else "",
        f"<p class=note>{escape(_explanation(study))}</p>",
        f"<h2>Coefficients and intervals</h2><figure>{drawn['coefficients']}</figure>{published}" if found else "",
        f"<h2>Each quantity against the test accuracy</h2><div class=grid>{scatters}</div>" if found else "",
        "<p class=note>Error bars: one standard error, of the quantity and of the accuracy on a finite test set.</p>",
        f"<h2>Networks by setting</h2><div class=wide>{_settings(study)}</div>",
        f"<h2>What has no value</h2><ul>{problems}</ul>" if problems else "",
        f"<h2>Configuration</h2><pre>{escape(study.protocol.model_dump_json(indent=2))}</pre>",
        f"<pre>{escape(json.dumps(versions(), indent=2))}</pre>",
        "<p class=note>Data: results.csv has a row for each network; figures/ has the data of each figure.</p>",
    ]
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{escape(_title(study))}</title>"
        f'<meta name=viewport content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"{''.join(parts)}</body></html>\n"
    )


def _setting_headings(study: Study) -> list[str]:
    return [*study.protocol.axes, "networks", "mean epochs", "training error", "test error"]


def _summaries(study: Study) -> list[list[str]]:
    """Rows of the table of settings: axes, networks, mean epochs, training and test error."""
    rows = []
    for index in range(len(study.settings)):
        own = [row for row in study.rows if row["setting"] == index]
        if own:
            means = [
                sum(row.get(name) or 0.0 for row in own) / len(own)
                for name in ("epochs", "training_error", "test_error")
            ]
            axes = [str(own[0][name]) for name in study.protocol.axes]
            rows.append([*axes, str(len(own)), f"{means[0]:.0f}", f"{means[1]:.1%}", f"{means[2]:.1%}"])
    return rows


def _settings(study: Study) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in _setting_headings(study))
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in _summaries(study))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _markdown(study: Study, found: Sequence[Verdict]) -> str:
    lines = [f"# {_title(study)}", "", study.protocol.about.strip(), "", _state(study), ""]
    if found:
        lines += ["## Which quantity predicts generalization?", "", summary(found), ""]
        lines += [*(f"- {sentence(verdict)}" for verdict in found), ""]
        lines += [f"| {' | '.join(_HEADINGS)} |", f"|{'---|' * len(_HEADINGS)}"]
        for verdict in found:
            cells = (f"{value} ({rest})" if rest else value for value, rest in _cells(verdict))
            name = in_words(verdict.name).replace("|", "\\|")
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines += ["", _explanation(study), "", "![coefficients](figures/coefficients.svg)", ""]
    headings = _setting_headings(study)
    lines += ["## Networks by setting", "", f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}"]
    lines += [f"| {' | '.join(row)} |" for row in _summaries(study)]
    lines += ["", *(f"- {each}" for each in study.problems)]
    return "\n".join(lines) + "\n"
