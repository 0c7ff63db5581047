"""Style of all figures: colours, sizes, and the file formats."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

INK, ACCENT, GREEN, VIOLET, OCHRE, BLUE = "#1b3a5c", "#c8553d", "#5b8e7d", "#8d6a9f", "#c9a227", "#5aa2d6"
_BROWN = "#7a5c45"
COLOURS = (INK, ACCENT, GREEN, VIOLET, OCHRE, BLUE, _BROWN)
SUFFIXES = (".png", ".svg", ".pdf")
_DPI, _SCREEN_DPI = 150, 110
RC = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "figure.titlesize": 11,
    "font.size": 9.5,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # editable text
    "svg.fonttype": "none",
    "svg.hashsalt": "nngp-prior",  # the same figure is the same file
}


def use() -> None:
    """Make the style matplotlib's default in this process, for notebooks and scripts with figures of their own."""
    matplotlib: Any = importlib.import_module("matplotlib")
    cycler: Any = importlib.import_module("cycler")
    matplotlib.rcParams.update(RC | {"axes.prop_cycle": cycler.cycler(color=COLOURS), "figure.dpi": _SCREEN_DPI})


@contextmanager
def figure(path: Path, title: str, **shape: Any) -> Iterator[tuple[Any, Any]]:
    """Draw a figure without a screen and write it to a file.

    Args:
        path: path of the file; its suffix, one of ``SUFFIXES``, determines the format.
        title: title of the figure.
        **shape: as for ``matplotlib.pyplot.subplots``.

    Yields:
        the figure and its axes.
    """
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    with pyplot.rc_context(RC):
        drawn, axes = pyplot.subplots(**shape)
        yield drawn, axes
        drawn.suptitle(title)
        drawn.tight_layout()
        undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix)
        drawn.savefig(path, dpi=_DPI, bbox_inches="tight", metadata=undated)
        pyplot.close(drawn)


def points(
    ax: Any, at: Any, values: Any, low: Any, high: Any, *, horizontal: bool = False, join: bool = False, **options: Any
) -> None:
    """Draw points with intervals; what is not finite is left out.

    Args:
        ax: axes of matplotlib.
        at: places of the points.
        values: values of the points.
        low: lower ends of the intervals.
        high: upper ends.
        horizontal: True if values are on the abscissa.
        join: True for a line through the points.
        **options: ``color``, ``label`` and others of ``Axes.plot``.
    """
    at, values, low, high = (np.asarray(each, float) for each in (at, values, low, high))
    options = {"color": INK, "markersize": 4, "linewidth": 1.3, **options}
    finite = np.isfinite(values)
    places, drawn = at[finite], values[finite]
    ax.plot(*((drawn, places) if horizontal else (places, drawn)), "o-" if join else "o", **options)
    whole = finite & np.isfinite(low) & np.isfinite(high)
    lines = ax.hlines if horizontal else ax.vlines
    lines(at[whole], low[whole], high[whole], color=options["color"], lw=1.3)


def label_ends(axis: Any, ends: Sequence[tuple[str, float, float, Any]], gap: float = 0.052) -> None:
    """Write names beside the right ends of lines, moved apart to avoid overlap.

    Args:
        axis: axis of the lines, with its limits set.
        ends: name, x and y of the last point, and colour of each line.
        gap: minimum distance between two names, as a fraction of the axis.
    """
    low, high = axis.get_ylim()
    least, below = gap * (high - low), low - gap * (high - low)
    for name, x, y, colour in sorted(ends, key=lambda end: end[2]):
        below = max(y, below + least)
        arrow = {"arrowstyle": "-", "color": colour, "lw": 0.6, "shrinkA": 1, "shrinkB": 2, "relpos": (0, 0.5)}
        axis.annotate(
            name, (x, y), xytext=(1.03, (below - low) / (high - low)), textcoords="axes fraction", color=colour,
            va="center", fontsize=8, arrowprops=arrow, annotation_clip=False,
        )  # fmt: skip
