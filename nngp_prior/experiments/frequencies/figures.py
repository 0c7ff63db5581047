"""Figures of a study of functions: frequency against log P, by rank, and against complexity or test error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nngp_prior import style
from nngp_prior.experiments.frequencies.analysis import frequencies, in_words
from nngp_prior.experiments.frequencies.study import FrequencyStudy
from nngp_prior.schemas.frequencies import Complexity
from nngp_prior.schemas.results.frequencies import FrequencyVerdict

_MARKERS = "osD^vP*X<>"


def estimates_of(study: FrequencyStudy) -> list[str]:
    """Return the names of the estimates of log P."""
    return [each.name for each in study.protocol.quantities if not isinstance(each, Complexity)]


def scatter(study: FrequencyStudy, name: str, verdicts: Sequence[FrequencyVerdict], path: Path) -> list[dict[str, Any]]:
    """Draw the frequency of each function against an estimate of its log P, with error bars and the line y = x.

    Args:
        study: results.
        name: name of the estimate.
        verdicts: its verdicts, one per setting.
        path: file to write.

    Returns:
        the data of the figure.
    """
    rows = [row for row in study.rows if row.get(name) is not None and math.isfinite(row[name])]
    with style.figure(path, "", figsize=(5.4, 4.4)) as (_, axis):
        for place, verdict in enumerate(verdicts):
            own = [row for row in rows if row["setting"] == verdict.setting]
            x = np.array([row[name] for row in own])
            noise = np.array([row[f"{name}.stderr"] or 0.0 for row in own])
            y, low, high = _with_interval(own)
            colour = style.COLOURS[place % len(style.COLOURS)]
            axis.errorbar(
                x, y, [y - low, high - y], noise, fmt=_MARKERS[place % len(_MARKERS)], color=colour, ms=3.5,
                elinewidth=0.6, alpha=0.7, label=verdict.where or "functions",
            )  # fmt: skip
            ends = np.array([x.min(), x.max()])
            middle = np.mean(x), np.mean(frequencies(own)[0])
            axis.plot(ends, middle[1] + verdict.slope.value * (ends - middle[0]), color=colour, lw=1)
        values = np.array([row[name] for row in rows])
        both = np.array([values.min(), values.max()])
        axis.plot(both, both, color="grey", lw=0.9, ls="--", label="y = x")
        axis.set(xlabel=f"{in_words(name, _is_trained(study))} (nats)", ylabel="log frequency (nats)")
        axis.legend()
    keys = _keys(study, [name])
    return [{key: row.get(key) for key in keys} for row in rows]


def ranks(study: FrequencyStudy, path: Path) -> list[dict[str, Any]]:
    """Draw frequencies and probabilities by rank among the networks that choose, one panel per setting.

    Args:
        study: results.
        path: file to write.

    Returns:
        the data of the figure.
    """
    shown = [index for index in range(len(study.settings)) if study.of_setting(index)]
    names = estimates_of(study)
    shape = {"ncols": len(shown), "figsize": (1.4 + 4.4 * len(shown), 4.2), "sharey": True, "squeeze": False}
    with style.figure(path, "", **shape) as (_, axes):
        for axis, index in zip(axes[0], shown, strict=True):
            own = study.of_setting(index)
            rank = np.array([row["rank"] for row in own])
            y, low, high = _with_interval(own)
            axis.errorbar(
                rank, np.exp(y), [np.exp(y) - np.exp(low), np.exp(high) - np.exp(y)], fmt="o", color="grey", ms=3.5,
                elinewidth=0.6, alpha=0.6, label="networks",
            )  # fmt: skip
            for name, marker, colour in zip(names, "x+1234|", style.COLOURS, strict=False):
                P = [math.exp(row[name]) if row.get(name) is not None else math.nan for row in own]
                axis.plot(rank, P, marker, color=colour, ms=4, label=in_words(name, _is_trained(study)))
            title = str(study.settings[index]) if study.protocol.axes else ""
            axis.set(xscale="log", yscale="log", xlabel="rank of the function", title=title)
        axes[0, 0].set(ylabel="frequency, P")
        axes[0, -1].legend()
    keys = _keys(study, names)
    return [{key: row.get(key) for key in keys} for row in study.rows]


def against(study: FrequencyStudy, column: str, label: str, path: Path) -> list[dict[str, Any]]:
    """Draw frequencies and the first estimate of log P against a column, such as a complexity.

    Args:
        study: results.
        column: name of the column.
        label: name of the column for readers.
        path: file to write.

    Returns:
        the data of the figure.
    """
    shown = [index for index in range(len(study.settings)) if study.of_setting(index)]
    names = estimates_of(study)[:1]
    shape = {"ncols": len(shown), "figsize": (1.4 + 3.9 * len(shown), 3.8), "sharey": True, "squeeze": False}
    with style.figure(path, "", **shape) as (_, axes):
        for axis, index in zip(axes[0], shown, strict=True):
            own = [row for row in study.of_setting(index) if row.get(column) is not None]
            x, y = np.array([row[column] for row in own]), frequencies(own)[0]
            axis.plot(x, y, "o", color="grey", ms=4, alpha=0.6, label="log frequency")
            for name in names:
                values = [row[name] if row.get(name) is not None else math.nan for row in own]
                axis.plot(x, values, "x", color=style.INK, ms=4, label=in_words(name, _is_trained(study)))
            axis.set(xlabel=label, title=str(study.settings[index]) if study.protocol.axes else "")
        axes[0, 0].set(ylabel="nats")
        axes[0, -1].legend()
    keys = _keys(study, [column, *names])
    return [{key: row.get(key) for key in keys} for row in study.rows]


def _with_interval(rows: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log frequencies and one standard error to both sides; of functions that are not found, an interval from below."""
    y, variances = frequencies(rows)
    return y, y - np.sqrt(variances), y + np.sqrt(variances)


def _keys(study: FrequencyStudy, names: Sequence[str]) -> list[str]:
    errors = [key for name in names for key in (name, f"{name}.stderr")]
    return ["setting", *study.protocol.axes, "rank", "function", "count", "networks", "log_frequency", *errors]


def _is_trained(study: FrequencyStudy) -> bool:
    return study.protocol.training is not None
