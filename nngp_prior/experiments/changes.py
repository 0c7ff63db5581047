"""Changes of quantities by the rescaling in a course."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nngp_prior.experiments.study import Study
from nngp_prior.schemas.titles import in_words


class Change(NamedTuple):
    """Change of a quantity by the rescaling, over the networks with a value before and after.

    Attributes:
        name: name of the quantity, or ``test_error``.
        networks: number of networks.
        before: mean before the rescaling; the geometric mean if ``factor``.
        after: mean after it.
        factor: True if the change is a factor, of positive quantities; else a difference.
        change: mean change.
        stderr: its standard error over networks, of the factor's logarithm if ``factor``; NaN for one network.
    """

    name: str
    networks: int
    before: float
    after: float
    factor: bool
    change: float
    stderr: float

    @property
    def is_negligible(self) -> bool:
        """True if the change is less than 0.1 percent."""
        size = math.log(self.change) if self.factor else self.change / max(abs(self.before), 1e-300)
        return abs(size) < 1e-3


def changes(study: Study) -> list[Change]:
    """Return the change of each quantity by the rescaling of the course; nothing if there is none.

    Args:
        study: results of a study with a course.

    Returns:
        a change for each quantity with values, and for the test error.
    """
    course = study.protocol.course
    if course is None or course.rescale_after is None:
        return []
    found = [_change(study, name, course.rescale_after) for name in ("test_error", *study.quantities)]
    return [each for each in found if each is not None]


def _change(study: Study, name: str, at: int) -> Change | None:
    values: dict[tuple[int, int], dict[bool, float]] = {}
    for row in study.rows:
        if row["epoch"] == at and row.get(name) is not None and math.isfinite(row[name]):
            values.setdefault((row["setting"], row["network"]), {})[row["rescaled"]] = row[name]
    pairs = np.array([(each[False], each[True]) for each in values.values() if len(each) == 2], float).reshape(-1, 2)
    if not len(pairs):
        return None
    factor = name in study.quantities and study.quantities[name].group == "flatness" and bool(np.all(pairs > 0))
    scaled = np.log(pairs) if factor else pairs
    before, after = scaled.mean(axis=0)
    differences = scaled[:, 1] - scaled[:, 0]
    stderr = float(differences.std(ddof=1)) / math.sqrt(len(pairs)) if len(pairs) > 1 else math.nan
    change = float(differences.mean())
    if factor:
        before, after, change = math.exp(before), math.exp(after), math.exp(change)
    return Change(name, len(pairs), float(before), float(after), factor, change, stderr)


def summary_of_course(found: Sequence[Change]) -> str:
    """Return the effect of the rescaling in a sentence or two; empty without changes."""
    if not found:
        return ""
    changed = [f"{in_words(each.name)} {_change_in_words(each)}" for each in found if not each.is_negligible]
    same = [in_words(each.name) for each in found if each.is_negligible]
    text = "The rescaling, which leaves every function unchanged, "
    text += f"changes {_listed(changed)}." if changed else "changes no quantity."
    return text + (f" It does not change {_listed(same)}." if changed and same else "")


def _change_in_words(change: Change) -> str:
    return f"by a factor of {change.change:.3g}" if change.factor else f"by {change.change:+.2g}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
