"""Figure of a loss landscape."""

from __future__ import annotations

from pathlib import Path

from nngp_prior import style
from nngp_prior.sharpness.surface import Surface, draw_landscape


def plot_landscape(path: Path, title: str, surface: Surface) -> None:
    """Draw loss and training error side by side: on a line as curves, on a plane as contours.

    Args:
        path: file to write.
        title: title of the figure.
        surface: landscape to draw.
    """
    line = surface.specification.dimensions == 1
    with style.figure(path, title, ncols=2, figsize=(10, 4.2) if line else (12.5, 5.2), sharex=True) as (_, axes):
        draw_landscape(axes[0], surface, "loss")
        draw_landscape(axes[1], surface, "error")
        axes[1].set(ylabel=axes[1].get_ylabel() if line else "")
