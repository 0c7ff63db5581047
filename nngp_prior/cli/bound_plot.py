"""The figure of bounds against the number of training examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_CHANCE = 0.5


class Curve(NamedTuple):
    """One line of the figure.

    Attributes:
        sizes: numbers of training examples.
        values: errors.
        dashed: for what is not a bound.
    """

    sizes: Sequence[int]
    values: Sequence[float]
    dashed: bool = False


def plot_bounds(path: Path, title: str, panels: Mapping[str, Mapping[str, Curve]]) -> None:
    """Draw errors against the number of training examples, one panel beside the other.

    Args:
        path: of the PNG to write.
        title: of the figure.
        panels: curves by their names, by the titles of their panels; names in common get the same colour.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    colours = {name: plt.get_cmap("viridis")(0.9 * i / max(len(names) - 1, 1)) for i, name in enumerate(names)}
    figure, axes = plt.subplots(1, len(panels), figsize=(1.5 + 5.5 * len(panels), 4.6), sharey=True, squeeze=False)
    for axis, (panel, curves) in zip(axes[0], panels.items(), strict=True):
        for name, curve in curves.items():
            axis.plot(curve.sizes, curve.values, "o-" if not curve.dashed else "o--", color=colours[name], label=name,
                      ms=3.5, lw=1.3)  # fmt: skip
        axis.axhline(_CHANCE, color="grey", lw=0.8, ls=":")
        axis.set(xscale="log", xlabel="training examples m", title=panel, ylim=(0, 1.02))
        shown = sorted({m for curve in curves.values() for m in curve.sizes})
        axis.set_xticks(shown, [f"{m:,}" for m in shown], rotation=45 if len(shown) > 6 else 0)
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set(ylabel="bound on the error (dotted: chance)")
    axes[0, -1].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(figure)
