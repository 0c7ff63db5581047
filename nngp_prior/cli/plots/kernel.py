"""Figure of a kernel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nngp_prior import style
from nngp_prior.kernels.inspection import Inspection, draw_eigenvalues

_SHOWN = 1000  # inputs shown; more are indistinguishable


def plot_kernel(
    path: Path,
    title: str,
    K: np.ndarray,
    found: Inspection,
    classes: np.ndarray | None,
    class_names: Sequence[str] = (),
) -> None:
    """Draw the correlations of a kernel, sorted by class if classes are known, and its spectrum.

    Args:
        path: file to write.
        title: title of the figure.
        K: kernel, (n, n); of many inputs every k-th is shown.
        found: result of :func:`nngp_prior.kernels.inspect`.
        classes: classes of the inputs, (n,).
        class_names: names of the classes 0, 1, …; default: their numbers.
    """
    order = np.arange(found.n) if classes is None else np.argsort(classes, kind="stable")
    shown = order[:: -(-found.n // _SHOWN)]
    scale = np.sqrt(np.diagonal(K)[shown])
    with np.errstate(divide="ignore", invalid="ignore"):  # an input without variance has no correlations
        correlation = np.asarray(K[np.ix_(shown, shown)]) / np.outer(scale, scale)
    with style.figure(path, title, ncols=2, figsize=(12, 5.4), width_ratios=(1.1, 1)) as (figure, (left, right)):
        image = left.imshow(correlation, cmap="viridis", interpolation="nearest")
        figure.colorbar(image, ax=left, label="correlation of outputs", fraction=0.046, pad=0.03)
        every = f", every {-(-found.n // _SHOWN)}th" if len(shown) < found.n else ""
        if classes is None:
            left.set(xlabel=f"input{every}", ylabel=f"input{every}")
        else:
            present, first, counts = np.unique(classes[shown], return_index=True, return_counts=True)
            centres = first + (counts - 1) / 2
            names = [class_names[number] if class_names else str(number) for number in present]
            for axis, turned in ((left.xaxis, 0), (left.yaxis, 90)):
                axis.set_ticks(centres, names, rotation=turned if class_names else 0, va="center" if turned else "top")
                axis.set_tick_params(length=0)
            for start in first[1:]:
                left.axhline(start - 0.5, color="white", lw=0.6)
                left.axvline(start - 0.5, color="white", lw=0.6)
            left.set(xlabel=f"class (inputs sorted by class{every})", ylabel="class")

        draw_eigenvalues(right, found)
