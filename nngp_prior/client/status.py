"""Status of a job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nngp_prior import style
from nngp_prior.progress import Progress
from nngp_prior.schemas import titles
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.table import Column
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
    def fraction(self) -> float:
        """Part of the rows that have results; 1 if there are none."""
        return self.current / self.target if self.target else 1.0

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


def _of_document(name: str) -> Callable[[Status], Any]:
    return lambda status: status.document.get(name)


_TIME = "datetime64[ns, UTC]"
COLUMNS = (
    Column("id", lambda status: status.id, "str", "job", ".12"),
    Column("kind", _of_document("kind"), "str", "kind"),
    Column("name", lambda status: status.name, "str", "name"),
    Column("tags", lambda status: ", ".join(status.tags), "str", "tags"),
    Column("data", _of_document("data"), "str", "data"),
    Column("n", _of_document("n"), "float64", "n", ",.0f"),
    Column("state", lambda status: status.state, "str", "state"),
    Column("current", lambda status: status.current, "int64"),
    Column("target", lambda status: status.target, "int64"),
    Column("done", lambda status: status.done, "str", "done"),
    Column("created", _of_document("created"), _TIME),
    Column("started", _of_document("started"), _TIME),
    Column("finished", _of_document("finished"), _TIME),
    Column("error", lambda status: (status.error or {}).get("detail"), "str", "error"),
)
"""Columns of jobs, by their status; times in UTC, NaT if there is none."""


def draw_progress(ax: Any, statuses: Sequence[Status]) -> None:
    """Draw the part of its rows that each job has computed, the first job at the top.

    Args:
        ax: axes of matplotlib.
        statuses: status of each job.
    """
    colours = {"successful": style.GREEN, "failed": style.ACCENT, "dismissed": "grey"}
    at = range(len(statuses))
    filled = [colours.get(each.state, style.INK) for each in statuses]
    ax.barh(at, [each.fraction for each in statuses], color=filled, height=0.6)
    names = [each.name or f"{each.id[:12]} {each.document['kind']}" for each in statuses]
    states = [f"{each.state}, {each.done}" for each in statuses]
    ax.set_yticks(at, [f"{name}\n{state}" for name, state in zip(names, states, strict=True)])
    ax.set(xlabel="part of the rows", xlim=(0, 1))
    ax.invert_yaxis()
