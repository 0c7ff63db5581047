"""Figure of a loss landscape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nngp_prior import style
from nngp_prior.sharpness.loss_landscape import Surface

_INK, _ERROR, _PATH = style.INK, style.ACCENT, "#f4f1ea"
_DECADES = 1.5  # range of losses from which their axis is logarithmic
_LEVELS = 24


def plot_landscape(path: Path, title: str, surface: Surface, unit: str) -> None:
    """Draw loss and training error: on a line side by side, on a plane as contours.

    Args:
        path: file to write.
        title: title of the figure.
        surface: landscape to draw.
        unit: unit of the loss.
    """
    if surface.specification.dimensions == 1:
        with style.figure(path, title, ncols=2, figsize=(10, 4.2), sharex=True) as (_, axes):
            _draw_line(axes, surface, unit)
    else:
        with style.figure(path, title, ncols=2, figsize=(12.5, 5.2), sharex=True, sharey=True) as (figure, axes):
            _draw_plane(figure, axes, surface, unit)


def _spans_decades(loss: np.ndarray) -> bool:
    shown = loss[np.isfinite(loss)]
    return len(shown) > 0 and shown.min() > 0 and np.log10(shown.max() / shown.min()) > _DECADES


def _axis_label(surface: Surface, i: int) -> str:
    name = "xy"[i]
    if surface.explained is None:
        return f"{name}, in units of direction {i + 1}"
    return f"{name}: principal direction {i + 1}, {surface.explained[i]:.1%} of the path"


def _draw_line(axes: Any, surface: Surface, unit: str) -> None:
    left, right = axes
    (x,) = surface.coordinates
    left.plot(x, np.where(np.isfinite(surface.loss), surface.loss, np.nan), color=_INK, lw=1.6)
    left.set(ylabel=f"loss ({unit})", yscale="log" if _spans_decades(surface.loss) else "linear")
    right.plot(x, surface.error, color=_ERROR, lw=1.6)
    right.set(ylabel="training error", ylim=(-0.02, max(0.55, 1.05 * float(np.nanmax(surface.error)))))
    for axis in (left, right):
        axis.axvline(0, color="grey", lw=0.8, ls=":")
        axis.set(xlabel=_axis_label(surface, 0))
        if surface.trajectory is not None:
            axis.plot(surface.trajectory[:, 0], np.zeros(len(surface.trajectory)), "|", color=_INK, ms=9,
                      transform=axis.get_xaxis_transform(), clip_on=False)  # fmt: skip


def _draw_plane(figure: Any, axes: Any, surface: Surface, unit: str) -> None:
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.ticker import LogFormatterSciNotation, LogLocator, MaxNLocator, ScalarFormatter

    x, y = surface.coordinates
    loss = np.where(np.isfinite(surface.loss), surface.loss, np.nan)
    low, high = float(np.nanmin(loss)), float(np.nanmax(loss))
    logarithmic = _spans_decades(surface.loss)
    if high <= low:  # a constant loss
        low, high = low - 0.5, high + 0.5
    space, norm = (np.geomspace, LogNorm(low, high)) if logarithmic else (np.linspace, Normalize(low, high))
    levels = space(low, high, _LEVELS)
    levels[0], levels[-1] = low, high  # rounded powers must not exclude a point
    panels = (("viridis", loss, levels, norm, f"loss ({unit})"), ("magma", surface.error, None, None, "training error"))
    for axis, (colours, values, at, scale, label) in zip(axes, panels, strict=True):
        if at is None:
            at = np.linspace(0, max(float(np.nanmax(values)), 0.05), _LEVELS)
        filled = axis.contourf(x, y, values.T, levels=at, norm=scale, cmap=colours)
        bar = figure.colorbar(filled, ax=axis, label=label)
        powers = scale is norm and logarithmic
        bar.locator = LogLocator() if powers else MaxNLocator(8)
        bar.formatter = LogFormatterSciNotation() if powers else ScalarFormatter()
        bar.update_ticks()
        if axis is axes[0]:
            axis.contour(x, y, values.T, levels=at[1::3], norm=scale, colors="white", linewidths=0.5, alpha=0.6)
        if surface.trajectory is not None:
            axis.plot(*surface.trajectory.T, ".-", color=_PATH, ms=4, lw=0.9)
        axis.plot(0, 0, "*", color=_ERROR, ms=11, mec="white", mew=0.6)
        axis.set(xlabel=_axis_label(surface, 0))
    axes[0].set(ylabel=_axis_label(surface, 1))
