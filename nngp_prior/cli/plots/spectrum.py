"""Figure of a spectrum."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nngp_prior import style
from nngp_prior.sharpness.measures.spectrum import Spectrum

_INK, _ENDS = style.INK, style.ACCENT
_DECADES = 8  # range shown below the highest point


def plot_spectrum(path: Path, title: str, at: np.ndarray, density: np.ndarray, spectrum: Spectrum) -> None:
    """Draw the density of eigenvalues, and the ends of the spectrum.

    Args:
        path: file to write.
        title: title of the figure.
        at: eigenvalues, (k,).
        density: density at them, (k,).
        spectrum: spectrum whose extreme nodes are marked.
    """
    with style.figure(path, title, figsize=(8.5, 4.6)) as (_, axis):
        highest = density.max()
        floor = highest / 10**_DECADES
        axis.fill_between(at, floor, np.maximum(density, floor), color=_INK, alpha=0.15, lw=0)
        axis.semilogy(at, np.maximum(density, floor), color=_INK, lw=1.3)
        ends = (spectrum.smallest, spectrum.largest)
        label = f"extreme nodes: {spectrum.smallest:.4g} and {spectrum.largest:.4g}"
        axis.vlines(ends, floor, 3 * highest, color=_ENDS, lw=0.9, ls="--", label=label)
        axis.set(xlabel="eigenvalue", ylabel="density", ylim=(floor, 3 * highest), xlim=(at[0], at[-1]))
        axis.legend(loc="upper center")
        axis.grid(alpha=0.25)
