"""The report of a study as HTML, one file that needs nothing else, and as Markdown."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import overload

from nngp_prior.experiments.analysis import sentence, summary, verdicts
from nngp_prior.experiments.frequencies.report import write_report as report_on_frequencies
from nngp_prior.experiments.frequencies.study import FrequencyStudy
from nngp_prior.experiments.page import configuration, drawn, markdown_table, page, table, with_interval
from nngp_prior.experiments.report import figures
from nngp_prior.experiments.report.course import write_course
from nngp_prior.experiments.study import Study
from nngp_prior.extras import require_extra
from nngp_prior.schemas.results.experiment import Verdict
from nngp_prior.schemas.results.frequencies import FrequencyVerdict
from nngp_prior.schemas.text import number_of
from nngp_prior.schemas.titles import in_words

_HEADINGS = (
    "quantity",
    "Kendall τ",
    "Spearman ρ",
    "Pearson r",
    "partial r",
    "Ψ",
    "CMI",
    "sign error",
)
_PUBLISHED = "published τ, ρ, r"  # a further column if there are some
_ALONG = "Kendall's τ along one axis, all others fixed"
_ERRORS = (
    "Test errors of the trained networks, and errors and bounds of functions drawn from the posterior given the same "
    "training set, as means over networks with their standard deviation. The bounds are not of networks trained by SGD."
)


@overload
def write_report(study: Study) -> list[Verdict]: ...
@overload
def write_report(study: FrequencyStudy) -> list[FrequencyVerdict]: ...
def write_report(study: Study | FrequencyStudy) -> list[Verdict] | list[FrequencyVerdict]:
    """Write ``report.html``, ``report.md``, ``verdicts.json``, and figures with their data, to the study's folder.

    Args:
        study: results.

    Returns:
        the verdicts on all quantities, the best predictor first; none of a study with a course.

    Raises:
        MissingExtra: if matplotlib is not installed.
    """
    require_extra("plots")
    if isinstance(study, FrequencyStudy):
        return report_on_frequencies(study)
    if study.protocol.course is not None:
        write_course(study)
        return []
    found, folder = verdicts(study), study.folder / "figures"
    folder.mkdir(exist_ok=True)
    plots: dict[str, str] = {}
    if found:
        plots["coefficients"] = drawn(folder / "coefficients.svg", lambda path: figures.coefficients(found, path))
    if figures.has_errors(study):
        plots["errors"] = drawn(folder / "errors.svg", lambda path: figures.errors(study, path))
    for verdict in found:
        name = re.sub(r"[^a-z0-9_]+", "-", verdict.name.lower()).strip("-")
        draw = functools.partial(figures.scatter, study, verdict)
        plots[verdict.name] = drawn(folder / f"{name}.svg", draw)
    (study.folder / "verdicts.json").write_text(json.dumps([each.as_json() for each in found], indent=2) + "\n")
    (study.folder / "report.md").write_text(_markdown(study, found), encoding="utf-8")
    (study.folder / "report.html").write_text(_html(study, found, plots), encoding="utf-8")
    return found


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


def _table(found: Sequence[Verdict]) -> tuple[list[str], list[list[str | tuple[str, str]]]]:
    """Headings and rows of the table of verdicts."""
    rows: list[list[str | tuple[str, str]]] = [
        [(in_words(each.name), number_of(each.networks, "network") if each.missing else ""), *_cells(each)]
        for each in found
    ]
    if all(each.published is None for each in found):
        return list(_HEADINGS), rows
    for row, each in zip(rows, found, strict=True):
        marks = each.published
        values = () if marks is None else (marks.kendall, marks.spearman, marks.pearson)
        row.append(", ".join("–" if value is None else f"{value:.3g}" for value in values))
    return [*_HEADINGS, _PUBLISHED], rows


def _cells(verdict: Verdict) -> list[tuple[str, str]]:
    error = verdict.sign_error
    return [
        *map(with_interval, (verdict.kendall, verdict.spearman, verdict.pearson, verdict.partial)),
        ("–" if math.isnan(verdict.granulated) else f"{verdict.granulated:.2f}", ""),
        ("–" if math.isnan(verdict.information) else f"{verdict.information:.2f}", ""),
        ("–", "") if not error.environments else (f"{error.mean:.2f}", f"worst {error.worst:.2f}"),
    ]


def _html(study: Study, found: Sequence[Verdict], plots: Mapping[str, str]) -> str:
    scatters = "".join(
        f"<figure>{plots[verdict.name]}<figcaption>{escape(sentence(verdict))}</figcaption></figure>"
        for verdict in found
    )
    problems = "".join(f"<li>{escape(each)}</li>" for each in study.problems)
    sources = sorted({verdict.published.source for verdict in found if verdict.published is not None})
    published = f"<p class=note>Diamonds: published values ({escape('; '.join(sources))}).</p>" if sources else ""
    parts = [
        f"<p class=about>{escape(study.protocol.about.strip())}</p><p>{escape(_state(study))}</p>",
        f"<h2>Which quantity predicts generalization?</h2><p><b>{escape(summary(found))}</b></p>"
        if found
        else "<p>Fewer than four networks are finished.</p>",
        table(*_table(found)) if found else "",
        f"<p class=note>{escape(_explanation(study))}</p>",
        *_along_html(study, found),
        f"<h2>Errors and bounds</h2><figure>{plots['errors']}</figure><p class=note>{_ERRORS}</p>"
        if "errors" in plots
        else "",
        f"<h2>Coefficients and intervals</h2><figure>{plots['coefficients']}</figure>{published}" if found else "",
        f"<h2>Each quantity against the test accuracy</h2><div class=grid>{scatters}</div>" if found else "",
        "<p class=note>Error bars: one standard error, of the quantity and of the accuracy on a finite test set.</p>",
        f"<h2>Networks by setting</h2>{table(_setting_headings(study), _summaries(study))}",
        f"<h2>What has no value</h2><ul>{problems}</ul>" if problems else "",
        configuration(study.protocol),
        "<p class=note>Data: results.csv has a row for each network; figures/ has the data of each figure.</p>",
    ]
    return page(_title(study), parts)


def _along(study: Study, found: Sequence[Verdict]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the table of Kendall's τ along each axis."""
    axes = list(study.protocol.axes)
    cells = [
        [
            in_words(each.name),
            *("–" if math.isnan(each.along.get(axis, math.nan)) else f"{each.along[axis]:.2f}" for axis in axes),
        ]
        for each in found
    ]
    return ["quantity", *axes], cells


def _along_html(study: Study, found: Sequence[Verdict]) -> list[str]:
    if not found or len(study.protocol.axes) < 2:
        return []
    return [f"<h2>{_ALONG}</h2>{table(*_along(study, found))}"]


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


def _markdown(study: Study, found: Sequence[Verdict]) -> str:
    lines = [f"# {_title(study)}", "", study.protocol.about.strip(), "", _state(study), ""]
    if found:
        lines += ["## Which quantity predicts generalization?", "", summary(found), ""]
        lines += [*(f"- {sentence(verdict)}" for verdict in found), ""]
        lines += markdown_table(*_table(found))
        lines += ["", _explanation(study), "", "![coefficients](figures/coefficients.svg)", ""]
    if found and len(study.protocol.axes) > 1:
        lines += [f"## {_ALONG}", "", *markdown_table(*_along(study, found)), ""]
    if figures.has_errors(study):
        lines += ["## Errors and bounds", "", "![errors](figures/errors.svg)", "", _ERRORS, ""]
    lines += ["## Networks by setting", "", *markdown_table(_setting_headings(study), _summaries(study))]
    lines += ["", *(f"- {each}" for each in study.problems)]
    return "\n".join(lines) + "\n"
