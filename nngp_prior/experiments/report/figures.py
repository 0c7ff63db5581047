"""Figures of a study: a quantity against the test accuracy, and the coefficients of all quantities."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nngp_prior import style
from nngp_prior.experiments.study import Study
from nngp_prior.schemas.results.experiment import Verdict, draw_coefficients
from nngp_prior.schemas.titles import in_words

_MARKERS = "osD^vP*X<>"
_COEFFICIENTS: tuple[Literal["pearson", "spearman", "kendall"], ...] = ("pearson", "spearman", "kendall")


def scatter(study: Study, verdict: Verdict, path: Path) -> list[dict[str, Any]]:
    """Draw a quantity against the test accuracy, one point per network, coloured by the first axis.

    Args:
        study: results.
        verdict: verdict on the quantity.
        path: file to write.

    Returns:
        the data of the figure.
    """
    name, axes = verdict.name, list(study.protocol.axes)
    names = ["setting", "network", *axes, "test_error", name, f"{name}.stderr", f"{name}.status"]
    rows = [
        {key: row.get(key) for key in names} for row in study.rows if _is_number(row.get(name), row.get("test_error"))
    ]
    values = _distinct(axes[0], rows) if axes else [""]
    ticker: Any = importlib.import_module("matplotlib.ticker")
    colours = importlib.import_module("matplotlib").colormaps["viridis"](np.linspace(0, 0.7, len(values)))
    with style.figure(path, "", figsize=(4.6, 3.5)) as (_, axis):
        for place, (value, colour) in enumerate(zip(values, colours, strict=True)):
            own = [row for row in rows if not axes or row[axes[0]] == value]
            accuracy = 1 - np.array([row["test_error"] for row in own], float)
            x = np.array([row[name] for row in own], float)
            noise = np.array([row[f"{name}.stderr"] or 0.0 for row in own], float)
            deviation = study.accuracy_errors(own)
            axis.errorbar(
                x, accuracy, deviation, noise, fmt=_MARKERS[place % len(_MARKERS)], color=colour, ms=4, elinewidth=0.7,
                label=str(value),
            )  # fmt: skip
        axis.set(xlabel=_label(verdict), ylabel="test accuracy")
        if verdict.scale == "log10":
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:.3g}"))
            axis.xaxis.set_minor_locator(ticker.NullLocator())
        if len(values) > 4:
            axis.legend(title=axes[0], loc="center left", bbox_to_anchor=(1.01, 0.5), handletextpad=0.2)
        elif len(values) > 1:
            axis.legend(
                title=axes[0], loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=len(values), handletextpad=0.2
            )
    return rows


def coefficients(verdicts: Sequence[Verdict], path: Path) -> list[dict[str, Any]]:
    """Draw the correlation coefficients of all quantities with their intervals, and published ones.

    Args:
        verdicts: verdicts, the best predictor first.
        path: file to write.

    Returns:
        the data of the figure.
    """
    shape = {"ncols": 3, "figsize": (9.2, 1.2 + 0.3 * len(verdicts)), "sharey": True, "squeeze": False}
    rows = []
    with style.figure(path, "", **shape) as (_, axes):
        for axis, kind in zip(axes[0], _COEFFICIENTS, strict=True):
            draw_coefficients(axis, verdicts, kind)
            axis.set(title=kind.capitalize())
            for verdict in verdicts:
                published = getattr(verdict.published, kind, None)
                own = {"quantity": verdict.name, "coefficient": kind, **getattr(verdict, kind)._asdict()}
                rows.append({**own, "published": published})
        axes[0, 0].invert_yaxis()
    return rows


def has_errors(study: Study) -> bool:
    """Return True if errors and bounds of the posterior can be drawn over the study's only axis."""
    values = [value for values in study.protocol.axes.values() for value in values]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return len(study.protocol.axes) == 1 and numeric and bool(_of_prior(study))


def errors(study: Study, path: Path) -> list[dict[str, Any]]:
    """Draw the test error of the networks, and errors and bounds of the posterior, over the study's only axis.

    Args:
        study: results, of which :func:`has_errors` is true.
        path: file to write.

    Returns:
        the data of the figure.
    """
    (name,) = study.protocol.axes
    drawn = {"test_error": "trained networks"} | {each: in_words(each) for each in _of_prior(study)}
    rows = []
    with style.figure(path, "", figsize=(5.4, 3.8)) as (_, axis):
        for place, (column, label) in enumerate(drawn.items()):
            points = []
            for value in sorted(study.protocol.axes[name]):
                own = [row[column] for row in study.rows if row[name] == value and _is_number(row.get(column))]
                if own:
                    points.append((value, float(np.mean(own)), float(np.std(own))))
            x, mean, spread = np.array(points, float).reshape(-1, 3).T
            colour, marker = style.COLOURS[place % len(style.COLOURS)], _MARKERS[place]
            axis.errorbar(x, mean, spread, fmt=f"{marker}-", color=colour, ms=4.5, lw=1.2, elinewidth=0.8, label=label)
            rows += [{name: a, "quantity": column, "mean": b, "deviation": c} for a, b, c in points]
        axis.set(xlabel=name, ylabel="error or bound", ylim=(0, None))
        if min(study.protocol.axes[name]) > 0 and max(study.protocol.axes[name]) >= 8 * min(study.protocol.axes[name]):
            ticker: Any = importlib.import_module("matplotlib.ticker")
            axis.set_xscale("log")
            axis.set_xticks(sorted(study.protocol.axes[name]))
            axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
            axis.xaxis.set_minor_locator(ticker.NullLocator())
        axis.legend()
    return rows


def _of_prior(study: Study) -> list[str]:
    return [name for name, described in study.quantities.items() if described.group == "prior"]


def _label(verdict: Verdict) -> str:
    return f"{in_words(verdict.name)} (nats)" if verdict.group == "log-p" else in_words(verdict.name)


def _distinct(axis: str, rows: Sequence[dict[str, Any]]) -> list[Any]:
    return list(dict.fromkeys(row[axis] for row in rows))


def _is_number(*values: Any) -> bool:
    return all(isinstance(value, int | float) and math.isfinite(value) for value in values)
