"""Status of a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nngp_prior.progress import Progress
from nngp_prior.schemas import titles
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.text import number_of

ENDED = ("successful", "failed", "dismissed")


@dataclass(frozen=True)
class Status:
    """Status of a job.

    Attributes:
        document: document of the job, as sent by the service.
    """

    document: dict[str, Any]

    def __repr__(self) -> str:
        return f"<Status {self.id[:12]} {self.state}, {self.done}>"

    @property
    def id(self) -> str:
        """Id of the job."""
        return self.document["id"]

    @property
    def name(self) -> str | None:
        """Name of the job; None if there is none."""
        return self.document.get("name")

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags of the job, in alphabetical order."""
        return tuple(self.document.get("tags", ()))

    @property
    def state(self) -> str:
        """``accepted``, ``running``, ``successful``, ``failed`` or ``dismissed``."""
        return self.document["state"]

    @property
    def ended(self) -> bool:
        """True if this attempt has ended."""
        return self.state in ENDED

    @property
    def title(self) -> str:
        """Id, kind and data as text: ``job 3de384b02ee0 (estimates, 20 digits)``."""
        n, data = self.document.get("n"), self.document.get("data")
        about = [] if n is None or data is None else [f"{n:,} {titles.data({'kind': data.partition('(')[0]})}"]
        return f"job {self.id[:12]} ({', '.join([self.document['kind'], *about])})"

    @property
    def cost(self) -> Cost | None:
        """Expected cost of the rows left; None if unknown."""
        stated = self.document.get("cost")
        if stated is None:
            return None
        return Cost(stated["bytes"], stated["seconds"] * (1 - self.current / max(self.target, 1)))

    @property
    def current(self) -> int:
        """Number of rows with results."""
        return self.document["progress"]["current"]

    @property
    def target(self) -> int:
        """Number of requested rows."""
        return self.document["progress"]["target"]

    @property
    def unit(self) -> str:
        """Name of the rows."""
        return self.document["progress"]["unit"]

    @property
    def done(self) -> str:
        """Progress as text: ``1 of 2 labellings``."""
        return f"{self.current:,} of {number_of(self.target, self.unit.removesuffix('s'))}"

    @property
    def error(self) -> dict[str, Any] | None:
        """Problem of a failed job."""
        return self.document.get("error")

    @property
    def events(self) -> list[Progress]:
        """Progress events for a callback: rows, and the stage of the current computation if there is one."""
        found = [Progress(self.unit, self.current, self.target)]
        stage = self.document["progress"].get("stage")
        if isinstance(stage, dict):
            found.append(Progress(stage["stage"], stage["done"], stage["total"]))
        return found
