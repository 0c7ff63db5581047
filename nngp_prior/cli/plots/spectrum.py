"""Figure of a spectrum."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nngp_prior import style
from nngp_prior.sharpness.measures.spectrum import Spectrum, draw_density


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
        draw_density(axis, at, density, spectrum)
