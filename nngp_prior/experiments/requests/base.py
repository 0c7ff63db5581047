"""Interface of the kinds of studies to requests for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from nngp_prior.errors import InvalidInput
from nngp_prior.experiments.store import Store
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.cost import Cost

MOST_TASKS = 100_000
FIGURE, RESAMPLE = 0.5, 5e-4  # seconds per figure, and per resample and quantity
REPORT_BYTES = 2**28  # matplotlib

P = TypeVar("P")
T = TypeVar("T")


class RequestedStudy(ABC, Generic[P, T]):
    """Tasks of a study, and the rows of their results. Those of a setting follow one another.

    Args:
        protocol: the protocol.

    Attributes:
        last: phase of the row of the study; tasks of a phase need the results of all earlier ones.
        tasks: all tasks, without the row of the study.

    Raises:
        InvalidInput: if an axis or a value is invalid, or there are too many tasks.
    """

    last: ClassVar[int]
    tasks: Sequence[T]

    @abstractmethod
    def __init__(self, protocol: P) -> None: ...

    @property
    @abstractmethod
    def n(self) -> int:
        """Number of inputs that networks are trained on, or of which functions are labellings."""

    @abstractmethod
    def phase(self, task: T) -> int:
        """Return the phase of a task."""

    @abstractmethod
    def cores(self, task: T) -> int:
        """Return the number of cores that a task uses; 0: all."""

    @abstractmethod
    def together(self, task: T, other: T) -> bool:
        """True if one process should carry out both tasks, if they are short."""

    @abstractmethod
    def title(self, task: T) -> str:
        """Return what a task computes, and for what, in words."""

    @abstractmethod
    def costs(self, tasks: Sequence[T], store: Store) -> Iterator[Cost]:
        """Yield the expected costs of tasks.

        Raises:
            InvalidInput: if more inputs are requested than exist.
            DataUnavailable: if data are missing.
        """

    @abstractmethod
    def cost_of_study(self) -> Cost:
        """Return the expected cost of statistics and report."""

    @abstractmethod
    def is_done(self, task: T, store: Store) -> bool:
        """True if a task need not be carried out."""

    @abstractmethod
    def row(self, task: T, store: Store, progress: ProgressCallback) -> dict[str, Any]:
        """Carry out a task unless it is done, and return its row.

        The status is ``incomplete`` if results that it needs are missing.
        """

    @abstractmethod
    def study(self, store: Store) -> dict[str, Any]:
        """Write results.csv and the report, and return verdicts and rows."""


def status_of(missing: Sequence[str]) -> dict[str, str]:
    """Return status and message of the row of a study in which tasks have no result."""
    if not missing:
        return {"status": "ok", "message": ""}
    message = f"{len(missing):,} tasks have no result. Post the request again for these."
    return {"status": "incomplete", "message": message}


def require_few(count: int, what: str) -> None:
    """Refuse more tasks than a request may have.

    Args:
        count: number of tasks.
        what: subject of the message, and of what there are too many.

    Raises:
        InvalidInput: if there are too many.
    """
    if count > MOST_TASKS:
        remedy = "Use fewer seeds, values or quantities."
        raise InvalidInput("seeds", f"{what} are more than {MOST_TASKS:,} tasks", remedy)
