"""What the service asks of a kind of work: rows of results, in chunks that can be done apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.base import Specification

Request = TypeVar("Request", bound=Specification)


@dataclass(frozen=True)
class Chunk:
    """Rows that are computed one after another by one worker.

    Attributes:
        rows: their places.
        cores: how many it makes use of; 0 is all that there are.
        bytes: peak memory of a worker that computes it.
        seconds: rough time.
    """

    rows: tuple[int, ...]
    cores: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Limits:
    """What workers have between them.

    Attributes:
        cores: processors.
        bytes: memory.
    """

    cores: int
    bytes: int


@dataclass(frozen=True)
class Plan:
    """What a request comes to, known before it is accepted.

    Attributes:
        rows: number of rows of results.
        chunks: that have all rows between them.
        unit: what a row is.
        facts: what the results say of the whole, such as the number of inputs and the kernel's key.
        cached: whether the kernel is there already.
    """

    rows: int
    chunks: tuple[Chunk, ...]
    unit: str
    facts: dict[str, Any] = field(default_factory=dict)
    cached: bool = False

    @property
    def bytes(self) -> int:
        """Peak memory of the largest chunk."""
        return max(chunk.bytes for chunk in self.chunks)

    @property
    def seconds(self) -> float:
        """Rough time, one chunk after another."""
        return sum(chunk.seconds for chunk in self.chunks)


class Work(Protocol[Request]):
    """A kind of work.

    Attributes:
        kind: the name of its route: ``/v1/{kind}``.
        request: the model of its body.
        columns: the numbers of a row that make an array of the results; none where that makes no sense.
    """

    kind: str
    request: type[Request]
    columns: tuple[str, ...]

    def plan(self, request: Request, bench: RequestRunner, limits: Limits) -> Plan:
        """Check all that can be checked without computing, in the process of the API: loads no JAX.

        Args:
            request: what was posted.
            bench: data sets, uploaded arrays, kernels.
            limits: of the machine.

        Returns:
            the chunks.

        Raises:
            NngpPriorError: the request cannot be carried out; :class:`ResourceLimit` where it does not fit.
        """
        ...

    def run(
        self, request: Request, rows: Sequence[int], bench: RequestRunner, progress: ProgressCallback
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Compute rows, in a worker.

        Args:
            request: what was posted.
            rows: places of those that are asked for.
            bench: data sets, uploaded arrays, kernels.
            progress: told of steps.

        Returns:
            place and result, as they finish; JSON can hold them.
        """
        ...

    def document(self, request: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
        """What stands above the rows in the results.

        Args:
            request: what was posted, as JSON.
            facts: of the plan.

        Returns:
            what JSON can hold.
        """
        ...
