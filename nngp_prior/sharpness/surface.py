"""Loss landscapes: values on a line or a plane, their file, and their figure."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from typing_extensions import override

from nngp_prior import style
from nngp_prior.data.npy import read_npz
from nngp_prior.errors import DataUnavailable
from nngp_prior.extras import import_from
from nngp_prior.numerics.whole_files import written_whole
from nngp_prior.schemas import titles
from nngp_prior.schemas.specs.landscape import Landscape
from nngp_prior.schemas.table import Column, Table, Tabular

_FORMAT = 1
_PATH = "#f4f1ea"
_DECADES = 1.5  # range of losses from which their axis is logarithmic
_LEVELS = 24


@dataclass(frozen=True, eq=False, repr=False)
class Surface(Tabular):
    """A loss landscape; the data frame has a row for each point.

    Attributes:
        specification: specification of the grid.
        coordinates: x of the points, and y for a plane, in units of the directions.
        loss: mean loss at each point, one axis per coordinate; infinite if outputs overflow, NaN if an interrupted run
            has not computed the point.
        error: fraction of examples with y f ≤ 0, same shape.
        lengths: ‖d₁‖, and ‖d₂‖ for a plane.
        trajectory: coordinates of the projected path to θ, one point per row; None without a trajectory.
        explained: fraction of the path's squared distances from θ explained by each direction.
        about: everything that the values depend on.
    """

    specification: Landscape
    coordinates: tuple[Float[np.ndarray, " points"], ...]
    loss: Float[np.ndarray, "*points"]
    error: Float[np.ndarray, "*points"]
    lengths: Float[np.ndarray, " dimensions"]
    trajectory: Float[np.ndarray, "steps dimensions"] | None
    explained: Float[np.ndarray, " dimensions"] | None
    about: Mapping[str, Any]

    @override
    def _summary(self) -> str:
        points = " × ".join(map(str, self.loss.shape))
        return f"{points} points, loss from {np.nanmin(self.loss):.4g} to {np.nanmax(self.loss):.4g}"

    @override
    def _table(self) -> Table:
        loss, error = self.loss.ravel(), self.error.ravel()
        along = np.stack([axis.ravel() for axis in np.meshgrid(*self.coordinates, indexing="ij")])
        columns = [
            Column("xy"[k], lambda i, k=k: float(along[k, i]), heading="xy"[k], form=".4g") for k in range(len(along))
        ]
        columns.append(Column("loss", lambda i: float(loss[i]), heading=self.loss_label, form=".6g"))
        columns.append(Column("error", lambda i: float(error[i]), heading="training error"))
        return Table(columns, range(len(loss)))

    @override
    def _draw(self, ax: Any) -> None:
        draw_landscape(ax, self, "loss")

    @property
    def loss_label(self) -> str:
        """Name of the loss with its unit."""
        return titles.loss(self.about["loss"])

    @property
    def complete(self) -> bool:
        """True if all points have been computed."""
        return not np.isnan(self.error).any()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the landscape to a file atomically.

        Args:
            path: path of the ``.npz`` file.
        """
        arrays: dict[str, Any] = {"loss": self.loss, "error": self.error, "lengths": self.lengths}
        arrays |= {f"coordinates/{i}": along for i, along in enumerate(self.coordinates)}
        if self.trajectory is not None and self.explained is not None:
            arrays |= {"trajectory": self.trajectory, "explained": self.explained}
        manifest = {"format": _FORMAT, "about": dict(self.about), "arrays": list(arrays)}
        with written_whole(Path(path)) as file:
            np.savez(file, manifest=np.array(json.dumps(manifest)), **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Surface:
        """Read a file written by :meth:`save` or by :func:`landscape`.

        Args:
            path: path of the file.

        Returns:
            the landscape.

        Raises:
            DataUnavailable: if the file does not exist, is damaged or has other contents.
        """
        refusal = DataUnavailable(f"{path}: holds no loss landscape. Name a file that landscape has written.")
        text = read_npz(Path(path), "manifest").get("manifest")
        try:
            manifest = json.loads(str(text))
            if manifest["format"] != _FORMAT:
                raise refusal
            arrays = read_npz(Path(path), *manifest["arrays"])
            specification = Landscape.model_validate(manifest["about"]["landscape"])
            along = tuple(arrays[f"coordinates/{i}"] for i in range(specification.dimensions))
            found = cls(
                specification,
                along,
                arrays["loss"],
                arrays["error"],
                arrays["lengths"],
                arrays.get("trajectory"),
                arrays.get("explained"),
                manifest["about"],
            )
        except (KeyError, ValueError, TypeError, AttributeError):  # pydantic's errors are ValueErrors
            raise refusal from None
        shape = (specification.points,) * specification.dimensions
        if not found.loss.shape == found.error.shape == tuple(map(len, along)) == shape:
            raise refusal
        return found


def draw_landscape(ax: Any, surface: Surface, quantity: Literal["loss", "error"]) -> None:
    """Draw the loss or the training error of a landscape.

    Args:
        ax: axes of matplotlib.
        surface: the landscape.
        quantity: ``loss`` or ``error``.
    """
    if surface.specification.dimensions == 1:
        _draw_line(ax, surface, quantity)
    else:
        _draw_plane(ax, surface, quantity)


def _spans_decades(loss: np.ndarray) -> bool:
    shown = loss[np.isfinite(loss)]
    return len(shown) > 0 and bool(shown.min() > 0) and bool(np.log10(shown.max() / shown.min()) > _DECADES)


def _axis_label(surface: Surface, i: int) -> str:
    name = "xy"[i]
    if surface.explained is None:
        return f"{name}, in units of direction {i + 1}"
    return f"{name}: principal direction {i + 1}, {surface.explained[i]:.1%} of the path"


def _draw_line(ax: Any, surface: Surface, quantity: Literal["loss", "error"]) -> None:
    (x,) = surface.coordinates
    if quantity == "loss":
        ax.plot(x, np.where(np.isfinite(surface.loss), surface.loss, np.nan), color=style.INK, lw=1.6)
        ax.set(ylabel=surface.loss_label, yscale="log" if _spans_decades(surface.loss) else "linear")
    else:
        ax.plot(x, surface.error, color=style.ACCENT, lw=1.6)
        ax.set(ylabel="training error", ylim=(-0.02, max(0.55, 1.05 * float(np.nanmax(surface.error)))))
    ax.axvline(0, color="grey", lw=0.8, ls=":")
    ax.set(xlabel=_axis_label(surface, 0))
    if surface.trajectory is not None:
        ax.plot(surface.trajectory[:, 0], np.zeros(len(surface.trajectory)), "|", color=style.INK, ms=9,
                transform=ax.get_xaxis_transform(), clip_on=False)  # fmt: skip


def _draw_plane(ax: Any, surface: Surface, quantity: Literal["loss", "error"]) -> None:
    ticker, colors = (import_from("plots", f"matplotlib.{module}") for module in ("ticker", "colors"))
    x, y = surface.coordinates
    values = surface.loss if quantity == "loss" else surface.error
    values = np.where(np.isfinite(values), values, np.nan)
    logarithmic = quantity == "loss" and _spans_decades(surface.loss)
    low, high = (float(np.nanmin(values)), float(np.nanmax(values))) if quantity == "loss" else (0.0, 0.05)
    if quantity == "error":
        high = max(float(np.nanmax(values)), high)
    elif high <= low:  # a constant loss
        low, high = low - 0.5, high + 0.5
    levels = (np.geomspace if logarithmic else np.linspace)(low, high, _LEVELS)
    levels[0], levels[-1] = low, high  # rounded powers must not exclude a point
    scale = (colors.LogNorm if logarithmic else colors.Normalize)(low, high)
    colours = "viridis" if quantity == "loss" else "magma"
    filled = ax.contourf(x, y, values.T, levels=levels, norm=scale, cmap=colours)
    label = surface.loss_label if quantity == "loss" else "training error"
    bar = ax.figure.colorbar(filled, ax=ax, label=label)
    bar.locator = ticker.LogLocator() if logarithmic else ticker.MaxNLocator(8)
    bar.formatter = ticker.LogFormatterSciNotation() if logarithmic else ticker.ScalarFormatter()
    bar.update_ticks()
    if quantity == "loss":
        ax.contour(x, y, values.T, levels=levels[1::3], norm=scale, colors="white", linewidths=0.5, alpha=0.6)
    if surface.trajectory is not None:
        ax.plot(*surface.trajectory.T, ".-", color=_PATH, ms=4, lw=0.9)
    ax.plot(0, 0, "*", color=style.ACCENT, ms=11, mec="white", mew=0.6)
    ax.set(xlabel=_axis_label(surface, 0), ylabel=_axis_label(surface, 1))
