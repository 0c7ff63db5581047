"""Figure of the demo."""

from __future__ import annotations

from pathlib import Path

from nngp_prior import style
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.text import nats

_INK, _EP, _BOUND, _PAC = style.INK, style.ACCENT, style.GREEN, style.VIOLET


def plot_labellings(
    path: Path, title: str, results: dict[str, Estimate], bounds: dict[str, float], delta: float
) -> None:
    """Draw log P of labellings, the distances of EP and of the rigorous bound to it, and the PAC-Bayes bounds.

    Args:
        path: file to write.
        title: title of the figure.
        results: estimates by ``smc``, by name.
        bounds: PAC-Bayes bounds, by name.
        delta: δ of both kinds of bound.
    """
    names = list(results)
    rows = range(len(names))
    estimates = list(results.values())
    with style.figure(path, title, ncols=3, figsize=(12, 1.6 + 0.6 * len(names)), sharey=True) as (
        _,
        (left, middle, right),
    ):
        left.barh(rows, [e.value for e in estimates], color=_INK, height=0.55)
        for row, e in zip(rows, estimates, strict=True):
            left.annotate(
                f" {nats(e.value, e.stderr)}", (0, row), va="center", ha="left", annotation_clip=False, fontsize=9
            )
        smallest = min(e.value for e in estimates)
        left.set(yticks=list(rows), yticklabels=names, xlabel="log P (nats)", xlim=(1.05 * smallest, -0.55 * smallest))
        left.set_xticks([tick for tick in left.get_xticks() if 1.05 * smallest <= tick <= 0])
        left.invert_yaxis()

        for row, e in zip(rows, estimates, strict=True):
            low, high = e.interval(0.95) or (e.value, e.value)
            first = row == 0
            middle.plot([low - e.value, high - e.value], [row, row], color=_INK, lw=5, solid_capstyle="butt",
                        label="95 % interval" if first else None)  # fmt: skip
            middle.plot(e.diagnostics["log_z_ep"] - e.value, row, "o", color=_EP, label="EP" if first else None)
            middle.plot((e.lower_bound(delta) or 0) - e.value, row, "<", color=_BOUND,
                        label=f"rigorous lower bound, δ = {delta:g}" if first else None)  # fmt: skip
        middle.axvline(0, color=_INK, lw=0.8)
        middle.set(xlabel="difference from the estimate (nats)")
        middle.legend(loc="upper center", bbox_to_anchor=(0.5, 1.13), ncol=3, columnspacing=1)

        values = [bounds[name] for name in names]
        right.barh(rows, values, color=_PAC, height=0.55)
        for row, value in zip(rows, values, strict=True):
            right.annotate(f" {value:.3f}", (value, row), va="center", fontsize=9)
        right.axvline(0.5, color="grey", lw=0.8, ls=":")
        right.set(xlabel="PAC-Bayes bound (dotted: chance)", xlim=(0, max(0.6, 1.25 * max(values))))
