"""Report of a study with a course: quantities over epochs, and their change by the rescaling."""

from __future__ import annotations

import importlib
import json
import math
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from nngp_prior import style
from nngp_prior.experiments.changes import Change, changes, summary_of_course
from nngp_prior.experiments.page import configuration, drawn, markdown_table, page, table
from nngp_prior.experiments.study import Study
from nngp_prior.schemas.text import number_of
from nngp_prior.schemas.titles import in_words

_COLUMNS = 3
_HEADINGS = ("quantity", "networks", "before", "after", "change")


def write_course(study: Study) -> None:
    """Write ``report.html``, ``report.md``, ``changes.json`` and the figure with its data to the study's folder.

    Args:
        study: results of a study with a course.
    """
    folder, found = study.folder / "figures", changes(study)
    folder.mkdir(exist_ok=True)
    figure = drawn(folder / "course.svg", lambda path: _figure(study, path)) if study.rows else ""
    title, about = study.protocol.title or study.protocol.name, study.protocol.about.strip()
    cells = [_cells(each) for each in found]
    problems = "".join(f"<li>{escape(each)}</li>" for each in study.problems)
    parts = [
        f"<p class=about>{escape(about)}</p><p>{escape(_state(study))}</p>",
        f"<h2>What does the rescaling change?</h2><p><b>{escape(summary_of_course(found))}</b></p>" if found else "",
        table(_HEADINGS, cells) if found else "",
        f"<h2>Course</h2><figure>{figure}</figure><p class=note>{escape(_NOTE)}</p>",
        f"<h2>What has no value</h2><ul>{problems}</ul>" if problems else "",
        configuration(study.protocol),
        "<p class=note>Data: results.csv has a row for each network and moment; figures/ the data of the figure.</p>",
    ]
    lines = [f"# {title}", "", about, "", _state(study), ""]
    if found:
        lines += ["## What does the rescaling change?", "", summary_of_course(found), ""]
        lines += [*markdown_table(_HEADINGS, cells), ""]
    lines += [
        "## Course",
        "",
        "![course](figures/course.svg)",
        "",
        _NOTE,
        "",
        *(f"- {each}" for each in study.problems),
    ]
    (study.folder / "changes.json").write_text(json.dumps([each._asdict() for each in found], indent=2) + "\n")
    (study.folder / "report.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    (study.folder / "report.html").write_text(page(title, parts), encoding="utf-8")


_NOTE = (
    "One line per network; vertical bars are standard errors; the dotted line is the rescaling. Epochs count from zero "
    "training error."
)


def _state(study: Study) -> str:
    course = study.protocol.course
    assert course is not None
    networks = number_of(study.finished, "network")
    text = f"{networks}, measured every {number_of(course.every, 'epoch')} of {course.epochs:,}"
    if course.rescale_after is not None:
        text += (
            f"; after {course.rescale_after:,} the first hidden layer is divided by α = {course.alpha:g}, and the next "
            "one's weights are multiplied by it"
        )
    return f"{text}." + (f" Unfinished: {study.total:,} networks in all." if study.finished < study.total else "")


def _cells(change: Change) -> list[str | tuple[str, str]]:
    sign, error = ("× ", change.stderr * change.change) if change.factor else ("", change.stderr)
    value = "none" if change.is_negligible else f"{sign}{change.change:.3g}" if sign else f"{change.change:+.3g}"
    spread = "" if math.isnan(error) or change.is_negligible else f"± {error:.1g}"
    return [in_words(change.name), str(change.networks), f"{change.before:.4g}", f"{change.after:.4g}", (value, spread)]


def _figure(study: Study, path: Path) -> list[dict[str, Any]]:
    """Draw the quantities over epochs, one line per network."""
    course = study.protocol.course
    assert course is not None
    names = ["test_error", *study.quantities]
    count = math.ceil(len(names) / _COLUMNS)
    networks = list(dict.fromkeys((row["setting"], row["network"]) for row in study.rows))
    colours = importlib.import_module("matplotlib").colormaps["viridis"](np.linspace(0, 0.7, len(networks)))
    shape = {"nrows": count, "ncols": _COLUMNS, "figsize": (9.6, 2.5 * count), "sharex": True, "squeeze": False}
    with style.figure(path, "", **shape) as (_, axes):
        for name, axis in zip(names, axes.flat, strict=False):
            values = []
            for network, colour in zip(networks, colours, strict=True):
                own = [row for row in study.rows if (row["setting"], row["network"]) == network and name in row]
                points = [(row["epoch"], row[name], row.get(f"{name}.stderr") or 0.0) for row in own]
                if points:
                    x, y, error = np.array(points, float).T
                    axis.errorbar(x, y, error, fmt="o-", color=colour, ms=2.5, lw=1, elinewidth=0.7)
                    values += y.tolist()
            described = study.quantities.get(name)
            if described is not None and described.group == "flatness" and values and min(values) > 0:
                axis.set_yscale("log")
            if course.rescale_after is not None:
                axis.axvline(course.rescale_after, color="grey", lw=0.9, ls=":")
            unit = " (nats)" if described is not None and described.group == "log-p" else ""
            axis.set_title(in_words(name) + unit)
        for axis in axes.flat[len(names) :]:
            axis.set_visible(False)
        for axis in axes[-1]:
            axis.set_xlabel("epochs after zero training error")
    kept = ["setting", "network", "epoch", "rescaled", "test_error"]
    kept += [each for name in study.quantities for each in (name, f"{name}.stderr")]
    return [{key: row.get(key) for key in kept} for row in study.rows]
