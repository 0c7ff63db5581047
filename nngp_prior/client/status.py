"""Where a job stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nngp_prior.progress import Progress
from nngp_prior.schemas.text import number_of

ENDED = ("successful", "failed", "dismissed")


@dataclass(frozen=True)
class Status:
    """Where a job stands.

    Attributes:
        document: as the service sent it.
    """

    document: dict[str, Any]

    def __repr__(self) -> str:
        return f"<Status {self.id[:12]} {self.state}, {self.done}>"

    @property
    def id(self) -> str:
        """Of the job."""
        return self.document["id"]

    @property
    def state(self) -> str:
        """``accepted``, ``running``, ``successful``, ``failed`` or ``dismissed``."""
        return self.document["state"]

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of this attempt."""
        return self.state in ENDED

    @property
    def current(self) -> int:
        """Rows that have results."""
        return self.document["progress"]["current"]

    @property
    def target(self) -> int:
        """Rows that were asked for."""
        return self.document["progress"]["target"]

    @property
    def unit(self) -> str:
        """What a row is."""
        return self.document["progress"]["unit"]

    @property
    def done(self) -> str:
        """How much has results, for people: ``1 of 2 labellings``."""
        return f"{self.current:,} of {number_of(self.target, self.unit.removesuffix('s'))}"

    @property
    def error(self) -> dict[str, Any] | None:
        """The problem of a job that failed."""
        return self.document.get("error")

    @property
    def events(self) -> list[Progress]:
        """Rows, and the stage of what is being computed if there is one, for a progress callback."""
        found = [Progress(self.unit, self.current, self.target)]
        stage = self.document["progress"].get("stage")
        if isinstance(stage, dict):
            found.append(Progress(stage["stage"], stage["done"], stage["total"]))
        return found
