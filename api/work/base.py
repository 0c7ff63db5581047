"""Interface of kinds of work: rows of results, in chunks that can be computed independently."""

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
    """Rows computed in sequence by one worker.

    Attributes:
        rows: row indices.
        cores: number of cores that it uses; 0: all.
        bytes: peak memory of its worker.
        seconds: rough time, seconds.
        phase: chunks of a later phase are computed once all rows of the earlier ones have results.
    """

    rows: tuple[int, ...]
    cores: int
    bytes: int
    seconds: float
    phase: int = 0


@dataclass(frozen=True)
class Limits:
    """Resources of the workers.

    Attributes:
        cores: cores of one machine.
        bytes: memory of one machine.
        all_cores: cores of all machines together; 0: of the only one.
    """

    cores: int
    bytes: int
    all_cores: int = 0


@dataclass(frozen=True)
class Plan:
    """Plan of a request, made before it is accepted.

    Attributes:
        rows: number of rows of results.
        chunks: chunks that cover all rows, in the order in which they are begun.
        unit: name of the rows, in the plural.
        facts: data about the results as a whole, such as the number of inputs and the kernel's key.
        cached: True if the kernel is in the cache.
    """

    rows: int
    chunks: tuple[Chunk, ...]
    unit: str
    facts: dict[str, Any] = field(default_factory=dict)
    cached: bool = False

    @property
    def bytes(self) -> int:
        """Peak memory of the largest chunk, bytes."""
        return max(chunk.bytes for chunk in self.chunks)

    @property
    def seconds(self) -> float:
        """Rough total time of all chunks in sequence, seconds."""
        return sum(chunk.seconds for chunk in self.chunks)


class Work(Protocol[Request]):
    """Kind of work.

    Attributes:
        kind: name of its route: ``/v1/{kind}``.
        request: model of the request body.
        columns: numbers of a row for results as an array; empty if there is no array form.
    """

    kind: str
    request: type[Request]
    columns: tuple[str, ...]

    def plan(self, request: Request, runner: RequestRunner, limits: Limits) -> Plan:
        """Check everything possible without computing; runs in the API process and does not load JAX.

        Args:
            request: request body.
            runner: request runner with data sets, uploaded arrays and kernels.
            limits: resources of the workers.

        Returns:
            the plan.

        Raises:
            NngpPriorError: if the request cannot be carried out; :class:`ResourceLimit` if it does not fit.
        """
        ...

    def run(
        self, request: Request, rows: Sequence[int], runner: RequestRunner, progress: ProgressCallback
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Compute rows in a worker.

        Args:
            request: request body.
            rows: indices of the rows to compute.
            runner: request runner with data sets, uploaded arrays and kernels.
            progress: progress callback.

        Returns:
            row index and JSON-serialisable result, as they finish.
        """
        ...

    def document(self, request: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
        """Return the part of the results document above the rows.

        Args:
            request: request body as JSON.
            facts: facts of the plan.

        Returns:
            a JSON object.
        """
        ...
