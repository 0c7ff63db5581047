"""Figure of functions drawn from a prior: frequency against rank, and against complexity."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nngp_prior import style
from nngp_prior.data.complexity import lempel_ziv
from nngp_prior.prior.sampling import FunctionCounts
from nngp_prior.schemas.text import number_of

_POINTS = 400  # points of a rank plot; more are indistinguishable
_FUNCTIONS = 2000  # functions whose complexity is shown, of those drawn at least twice


class Estimated(NamedTuple):
    """log P of the most frequent functions by an estimator, most frequent first.

    Attributes:
        log_p: nats.
        complexity: Lempel-Ziv, bits.
    """

    log_p: list[float]
    complexity: list[float]


def plot_functions(
    path: Path, title: str, sampled: Mapping[str, FunctionCounts], estimated: Mapping[str, Estimated]
) -> None:
    """Draw both panels.

    Args:
        path: file to write.
        title: title of the figure.
        sampled: counts of functions, by name; ranks are per name.
        estimated: values by estimator name, at the ranks of the first of ``sampled``.
    """
    with style.figure(path, title, ncols=2, figsize=(11.5, 4.6), sharey=True) as (_, (left, right)):
        colours = dict(zip([*sampled, *estimated], style.COLOURS, strict=False))
        for name, counts in sampled.items():
            shown = np.unique(np.geomspace(1, max(len(counts), 1), _POINTS).astype(int))[: len(counts)]
            label = f"{name}, {number_of(counts.draws, 'draw')}"
            left.plot(shown, counts.counts[shown - 1] / counts.draws, color=colours[name], lw=1.4, label=label)
            k = min(_FUNCTIONS, int(np.sum(counts.counts > 1)))
            complexities = [lempel_ziv(labels) for labels in counts.labels(slice(k))]
            right.plot(complexities, counts.counts[:k] / counts.draws, ".", color=colours[name], ms=4, alpha=0.5)
        for (name, values), marker in zip(estimated.items(), "x+1", strict=False):
            P = np.exp(values.log_p)
            left.plot(np.arange(1, len(P) + 1), P, marker, color=colours[name], ms=5, label=name)
            right.plot(values.complexity, P, marker, color=colours[name], ms=5)
        left.set(xscale="log", yscale="log", xlabel="rank of the function", ylabel="P")
        right.set(xlabel="Lempel-Ziv complexity of the labels (bits)")
        left.legend()
