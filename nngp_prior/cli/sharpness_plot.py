"""The figure of a spectrum."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nngp_prior.sharpness.spectrum import Spectrum

_INK, _ENDS = "#1b3a5c", "#c8553d"
_DECADES = 8  # below the highest point that are shown


def plot_spectrum(path: Path, title: str, at: np.ndarray, density: np.ndarray, spectrum: Spectrum) -> None:
    """Draw the density of eigenvalues, and the ends of the spectrum.

    Args:
        path: of the PNG to write.
        title: of the figure.
        at: eigenvalues.
        density: at them.
        spectrum: its nodes' ends are marked.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8.5, 4.6))
    highest = density.max()
    floor = highest / 10**_DECADES
    axis.fill_between(at, floor, np.maximum(density, floor), color=_INK, alpha=0.15, lw=0)
    axis.semilogy(at, np.maximum(density, floor), color=_INK, lw=1.3)
    for end, name in ((spectrum.smallest, "smallest"), (spectrum.largest, "largest")):
        axis.axvline(end, color=_ENDS, lw=0.9, ls="--", label=f"{name} node {end:.4g}")
    axis.set(xlabel="eigenvalue", ylabel="density", ylim=(floor, 3 * highest), xlim=(at[0], at[-1]))
    axis.legend(frameon=False, fontsize=8)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
