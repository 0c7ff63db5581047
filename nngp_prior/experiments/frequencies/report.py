"""Report of a study of functions."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from html import escape

from nngp_prior.experiments.frequencies import figures
from nngp_prior.experiments.frequencies.analysis import in_words, sentence, summary, verdicts
from nngp_prior.experiments.frequencies.choice import CHOOSING, COUNTING
from nngp_prior.experiments.frequencies.study import FrequencyStudy
from nngp_prior.experiments.page import configuration, drawn, markdown_table, page, table, with_interval
from nngp_prior.schemas.frequencies import Complexity
from nngp_prior.schemas.results.frequencies import FrequencyVerdict
from nngp_prior.schemas.text import number_of

_HEADINGS = ("quantity", "slope", "bias, nats", "scatter, nats", "Pearson r", "Spearman ρ", "Kendall τ")
_OF_SETTINGS = ("networks", "distinct", "frequent enough", "chosen", "of all networks", "by log P")
_SHOWN = 10  # functions in the table
_LONGEST = 32  # labels shown


def write_report(study: FrequencyStudy) -> list[FrequencyVerdict]:
    """Write ``report.html``, ``report.md``, ``verdicts.json``, and figures with their data, to the study's folder.

    Args:
        study: results.

    Returns:
        the verdicts.
    """
    found, folder = verdicts(study), study.folder / "figures"
    folder.mkdir(exist_ok=True)
    plots: dict[str, str] = {}
    for name in dict.fromkeys(verdict.name for verdict in found if verdict.expected > 0):
        own = [verdict for verdict in found if verdict.name == name]
        plots[name] = drawn(folder / f"{name}.svg", functools.partial(figures.scatter, study, name, own))
    if study.rows:
        plots["ranks"] = drawn(folder / "ranks.svg", functools.partial(figures.ranks, study))
    for name, label in _columns(study).items():
        draw = functools.partial(figures.against, study, name, label)
        plots[name] = drawn(folder / f"{name}.svg", draw)
    (study.folder / "verdicts.json").write_text(json.dumps([each.as_json() for each in found], indent=2) + "\n")
    (study.folder / "report.md").write_text(_markdown(study, found, plots), encoding="utf-8")
    (study.folder / "report.html").write_text(_html(study, found, plots), encoding="utf-8")
    return found


def _columns(study: FrequencyStudy) -> dict[str, str]:
    """Columns to which frequencies are compared in a figure each, and their names for readers."""
    found = {
        each.name: in_words(each.name, False) for each in study.protocol.quantities if isinstance(each, Complexity)
    }
    found |= {"test_error": "test error of the function"} if study.protocol.training is not None else {}
    return {name: words for name, words in found.items() if any(row.get(name) is not None for row in study.rows)}


def _is_trained(study: FrequencyStudy) -> bool:
    return study.protocol.training is not None


def _title(study: FrequencyStudy) -> str:
    return study.protocol.title or study.protocol.name


def _explanation(study: FrequencyStudy) -> str:
    own = study.protocol
    networks = "trained" if _is_trained(study) else "random"
    return (
        f"One half of the {networks} networks chooses the functions: those of at least {own.min_count:,} of them, at "
        f"most {own.functions:,}; the other half counts. Frequencies of functions chosen by the same networks would be "
        "too high. Slope: of log frequency against log P, by least squares with the errors of counting and of log P; "
        "1 if frequencies are proportional to P. Bias: mean of log P minus log frequency. Scatter: standard deviation "
        "about the line beyond these errors. Correlations are with log frequency. Below τ is the value that would be "
        "expected if frequencies were proportional to P: errors of counting keep it below 1, above all for functions "
        "of nearly equal P (it is too high where log P has errors as large as the differences between functions). "
        f"Ranges are {own.statistics.level:.0%} bootstrap intervals over functions."
    )


def _table(
    study: FrequencyStudy, found: Sequence[FrequencyVerdict]
) -> tuple[list[str], list[list[str | tuple[str, str]]]]:
    """Headings and rows of the table of verdicts; published values have a column if there are some."""
    rows = [_cells(each, _is_trained(study)) for each in found]
    if any(each.published is not None for each in found):
        return [*_HEADINGS, "published"], [[*row, _published(each)] for row, each in zip(rows, found, strict=True)]
    return [*_HEADINGS], rows


def _published(verdict: FrequencyVerdict) -> tuple[str, str]:
    marks = verdict.published
    if marks is None:
        return "", ""
    line = {"slope": marks.slope, "bias": marks.bias}
    return (
        "" if marks.pearson is None else f"r {marks.pearson:g}",
        ", ".join(f"{name} {value:g}" for name, value in line.items() if value is not None),
    )


def _cells(verdict: FrequencyVerdict, trained: bool) -> list[str | tuple[str, str]]:
    tau, interval = with_interval(verdict.kendall)
    many = number_of(verdict.functions, "function")
    attainable = "" if math.isnan(verdict.attainable) else f"; {verdict.attainable:.2f} expected"
    return [
        (in_words(verdict.name, trained), f"{verdict.where}, {many}" if verdict.where else many),
        with_interval(verdict.slope),
        with_interval(verdict.bias),
        with_interval(verdict.scatter),
        with_interval(verdict.pearson),
        with_interval(verdict.spearman),
        (tau, interval + attainable),
    ]


def _settings(study: FrequencyStudy) -> list[list[str]]:
    """Rows of the table of settings: how functions were chosen, and how much of the whole they are."""
    rows = []
    for setting, choice, index in zip(study.settings, study.choices, range(len(study.settings)), strict=True):
        if choice is None:
            continue
        own = study.of_setting(index)
        names = [name for name in figures.estimates_of(study) if own and own[0].get(name) is not None]
        P = sum(math.exp(row[names[0]]) for row in own) if names else math.nan
        networks = " + ".join(f"{choice['networks'][half]:,}" for half in (CHOOSING, COUNTING))
        rows.append(
            [
                *([str(setting)] if study.protocol.axes else []),
                networks,
                " + ".join(f"{choice['distinct'][half]:,}" for half in (CHOOSING, COUNTING)),
                f"{choice['eligible']:,}",
                f"{len(own):,}",
                f"{sum(row['count'] for row in own) / max(choice['networks'][COUNTING], 1):.2%}",
                "–" if math.isnan(P) else f"{P:.2%}",
            ]
        )
    return rows


def _setting_headings(study: FrequencyStudy) -> list[str]:
    return [*(["setting"] if study.protocol.axes else []), *_OF_SETTINGS]


def _functions(study: FrequencyStudy, index: int) -> tuple[list[str], list[list[str | tuple[str, str]]]]:
    """Headings and rows of the table of the most frequent functions of a setting."""
    names = [name for name in study.quantities if any(row.get(name) is not None for row in study.of_setting(index))]
    extra = ["test_error"] if _is_trained(study) else []
    headings = ["rank", "labels", "networks", "log frequency", *(in_words(name, _is_trained(study)) for name in names)]
    rows: list[list[str | tuple[str, str]]] = []
    for row in study.of_setting(index)[:_SHOWN]:
        bits = row["function"]
        cells: list[str | tuple[str, str]] = [
            str(row["rank"]),
            bits if len(bits) <= _LONGEST else (f"{bits[:_LONGEST]} …", number_of(row["ones"], "one")),
            f"{row['count']:,}",
            (f"{row['log_frequency']:.3f}", f"{row['low']:.2f} … {row['high']:.2f}"),
        ]
        for name in names:
            stderr = row.get(f"{name}.stderr")
            value = row.get(name)
            cells.append("–" if value is None else f"{value + 0.0:.3f}" + (f" ± {stderr:.3f}" if stderr else ""))
        cells += [f"{row[name]:.0%}" for name in extra]
        rows.append(cells)
    return [*headings, *("test error" for _ in extra)], rows


def _html(study: FrequencyStudy, found: Sequence[FrequencyVerdict], plots: Mapping[str, str]) -> str:
    trained = _is_trained(study)
    estimates = figures.estimates_of(study)

    scatters = "".join(f"<figure>{plots[name]}</figure>" for name in plots if name in estimates)
    others = "".join(f"<figure>{plots[name]}</figure>" for name in plots if name not in (*estimates, "ranks"))
    problems = "".join(f"<li>{escape(each)}</li>" for each in study.problems)
    texts = "".join(f"<p><b>{escape(text)}</b></p>" for text in summary(found, trained))
    sentences = "".join(f"<li>{escape(sentence(verdict, trained))}</li>" for verdict in found)
    sources = sorted({verdict.published.source for verdict in found if verdict.published is not None})
    published = f"<p class=note>Published: {escape('; '.join(sources))}.</p>" if sources else ""
    tables = "".join(
        f"{f'<h3>{escape(str(study.settings[index]))}</h3>' if study.protocol.axes else ''}"
        f"{table(*_functions(study, index))}"
        for index in range(len(study.settings))
        if study.of_setting(index)
    )
    parts = [
        f"<p class=about>{escape(study.protocol.about.strip())}</p><p>{escape(study.state)}.</p>",
        f"<h2>Are functions as frequent as they are probable?</h2>{texts}"
        f"{table(*_table(study, found))}{published}<ul>{sentences}</ul>"
        if found
        else "<p>Fewer than four functions are finished.</p>",
        f"<p class=note>{escape(_explanation(study))}</p>",
        f"<h2>Frequency against log P</h2><div class=grid>{scatters}</div>"
        "<p class=note>Error bars: one standard error, of the count and of log P. Dashed: y = x. Lines: fitted.</p>"
        if scatters
        else "",
        f"<h2>By rank</h2><figure>{plots['ranks']}</figure><p class=note>Ranks are those among the networks that "
        "choose, frequencies those of the networks that count.</p>"
        if "ranks" in plots
        else "",
        f"<h2>Against complexity{' and test error' if trained else ''}</h2>"
        f"{others if len(study.settings) > 1 else f'<div class=grid>{others}</div>'}"
        if others
        else "",
        f"<h2>Networks and functions</h2>{table(_setting_headings(study), _settings(study))}",
        "<p class=note>Networks and distinct functions: of the half that chooses, and of the half that counts. Of all "
        "networks: those that count and have one of the chosen functions. By log P: the sum of their P.</p>",
        f"<h2>The most frequent functions</h2>{tables}" if tables else "",
        f"<h2>What has no value</h2><ul>{problems}</ul>" if problems else "",
        configuration(study.protocol),
        "<p class=note>Data: results.csv has a row for each function; figures/ has the data of each figure.</p>",
    ]
    return page(_title(study), parts)


def _markdown(study: FrequencyStudy, found: Sequence[FrequencyVerdict], plots: Mapping[str, str]) -> str:
    trained = _is_trained(study)
    lines = [f"# {_title(study)}", "", study.protocol.about.strip(), "", f"{study.state}.", ""]
    if found:
        lines += [
            "## Are functions as frequent as they are probable?",
            "",
            *(line for text in summary(found, trained) for line in (text, "")),
        ]
        lines += [*(f"- {sentence(verdict, trained)}" for verdict in found), ""]
        lines += markdown_table(*_table(study, found))
        lines += ["", _explanation(study), ""]
    lines += [line for name in plots for line in (f"![{name}](figures/{name}.svg)", "")]
    lines += ["## Networks and functions", "", *markdown_table(_setting_headings(study), _settings(study)), ""]
    for index, setting in enumerate(study.settings):
        if study.of_setting(index):
            lines += [f"## The most frequent functions{f': {setting}' if study.protocol.axes else ''}", ""]
            lines += [*markdown_table(*_functions(study, index)), ""]
    lines += [*(f"- {each}" for each in study.problems)]
    return "\n".join(lines).rstrip() + "\n"
