"""Figure of bounds against the number of training examples."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from nngp_prior import style

_CHANCE = 0.5


class Curve(NamedTuple):
    """Curve of the figure.

    Attributes:
        sizes: numbers of training examples.
        values: errors.
        dashed: True for values that are not bounds.
        errors: half lengths of error bars; if given, values are drawn as points without a line.
    """

    sizes: Sequence[int]
    values: Sequence[float]
    dashed: bool = False
    errors: Sequence[float] = ()


def plot_bounds(path: Path, title: str, panels: Mapping[str, Mapping[str, Curve]]) -> None:
    """Draw errors against the number of training examples, in panels side by side.

    Args:
        path: file to write.
        title: title of the figure.
        panels: curves by name, by panel title; equal names share a colour.
    """
    of = {name: curve for curves in panels.values() for name, curve in curves.items()}
    colours = dict(zip((name for name, curve in of.items() if not curve.errors), itertools.cycle(style.COLOURS)))
    colours |= {name: "black" for name, curve in of.items() if curve.errors}
    shape = {"ncols": len(panels), "figsize": (1.5 + 5.5 * len(panels), 4.6), "sharey": True, "squeeze": False}
    with style.figure(path, title, **shape) as (_, axes):
        for axis, (panel, curves) in zip(axes[0], panels.items(), strict=True):
            for name, curve in curves.items():
                points = (curve.sizes, curve.values)
                if curve.errors:
                    axis.errorbar(*points, curve.errors, fmt="s", color=colours[name], ms=4, capsize=2.5, elinewidth=1)
                else:
                    axis.plot(*points, "o--" if curve.dashed else "o-", color=colours[name], ms=3.5, lw=1.3)
            axis.axhline(_CHANCE, color="grey", lw=0.8, ls=":")
            axis.set(xscale="log", xlabel="training examples m", title=panel, ylim=(0, 1.02))
            shown = sorted({m for curve in curves.values() for m in curve.sizes})
            axis.set_xticks(shown, [f"{m:,}" for m in shown], rotation=45 if len(shown) > 6 else 0)
            axis.minorticks_off()
            ends = [(name, curve.sizes[-1], curve.values[-1], colours[name]) for name, curve in curves.items()]
            style.label_ends(axis, [*ends, ("chance", axis.get_xlim()[1], _CHANCE, "grey")])
        axes[0, 0].set(ylabel="error, or bound on it")
