"""The work of a study in tasks that any process can carry out.

A task is a function of a setting and a folder. It returns rows, JSON-compatible, by key; what a row depends on is in
its key, so that a row of an earlier run is the same row.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

from nngp_prior.data.splits import Sets, training_data
from nngp_prior.experiments.grid import Setting
from nngp_prior.experiments.store import Key
from nngp_prior.schemas.protocols import Protocol
from nngp_prior.schemas.quantities import Quantity


class Task(NamedTuple):
    """A unit of work.

    Attributes:
        kind: ``train`` for all networks of a setting; ``measure`` or ``prior`` for a quantity of some of them, a
            measure of flatness or one that depends on the kernel.
        setting: setting of the networks.
        networks: numbers of the networks.
        quantity: the quantity; None to train.
        moment: index into the moments of the protocol's course; None without one.
    """

    kind: str
    setting: Setting[Protocol]
    networks: tuple[int, ...]
    quantity: Quantity | None = None
    moment: int | None = None

    @property
    def keys(self) -> list[Key]:
        """Keys of the rows, one per network."""
        own = () if self.quantity is None else (self.quantity.content_hash[:16],)
        own += () if self.moment is None else (str(self.moment),)
        return [(self.kind, self.setting.key, str(i), *own) for i in self.networks]


def networks_files(setting: Setting[Protocol], folder: Path) -> list[Path]:
    """Return the paths of the networks of a setting: at the goal, and of a course before and after the rescaling."""
    course = setting.protocol.course
    ends = [""] if course is None else ["", "-before"] if course.rescale_after is None else ["", "-before", "-after"]
    return [folder / "networks" / f"{setting.key}-{setting.protocol.seeds}{end}.npz" for end in ends]


def is_trained(setting: Setting[Protocol], folder: Path) -> bool:
    """Return True if the networks of a setting are in the folder."""
    return all(path.exists() for path in networks_files(setting, folder))


_sets = functools.lru_cache(maxsize=2)(training_data)


def sets_of(setting: Setting[Protocol]) -> Sets:
    """Return the training, attack and test set of a setting."""
    return _sets(setting.protocol.data)  # pyright: ignore[reportArgumentType]  frozen models are hashable
