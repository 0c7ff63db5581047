"""What the job table hands out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Of a job, in the words of OGC API - Processes."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    SUCCESSFUL = "successful"
    FAILED = "failed"
    DISMISSED = "dismissed"


OPEN = (State.ACCEPTED, State.RUNNING)


@dataclass(frozen=True)
class Job:
    """A request that was accepted.

    Attributes:
        id: hash of the request.
        kind: of work.
        summary: data, architecture and method in few words, for lists; None in jobs of older versions.
        rows: of results, when it is done.
        unit: what a row is.
        state: where it stands.
        attempt: 1 at first, one more with each new attempt.
        losses: workers that died at it in this attempt.
        done: rows that have results.
        given_up: rows among these whose result says only that workers were lost to them.
        stage: what was last told of progress: ``stage``, ``done``, ``total``; None when nothing runs.
        error: problem details of a job that failed.
        request_id: of the request that began this attempt.
        version: grows with every change.
        created: when it was first accepted.
        updated: when it last changed.
        started: when its first unit was claimed, in this attempt.
        finished: when it came to its end, in this attempt.
    """

    id: str
    kind: str
    summary: dict[str, Any] | None
    rows: int
    unit: str
    state: State
    attempt: int
    losses: int
    done: int
    given_up: int
    stage: dict[str, Any] | None
    error: dict[str, Any] | None
    request_id: str | None
    version: int
    created: datetime
    updated: datetime
    started: datetime | None
    finished: datetime | None

    @property
    def is_final(self) -> bool:
        """False if submitting it again begins a new attempt: it failed, was dismissed, or has rows without results."""
        return self.state in OPEN or (self.state == State.SUCCESSFUL and self.given_up == 0)


@dataclass(frozen=True)
class Lease:
    """The right to compute a unit of a job, for a while.

    Attributes:
        unit: its number.
        job: its job's id.
        kind: of work.
        request: of the job.
        rows: those of the unit that have no result yet.
        cores: how many it may use.
        bytes: peak memory.
        fence: number of this claim, larger than that of any before; what is written under an older one is refused.
        until: when it ends unless it is prolonged, seconds of the monotonic clock.
    """

    unit: int
    job: str
    kind: str
    request: dict[str, Any]
    rows: tuple[int, ...]
    cores: int
    bytes: int
    fence: int
    until: float


@dataclass(frozen=True)
class Event:
    """Something that happened to a job.

    Attributes:
        id: grows with time, over all jobs.
        type: ``accepted``, ``running``, ``progress``, ``rows``, ``lost``, ``successful``, ``failed`` or ``dismissed``.
        data: what there is to say of it.
        created: when it happened.
    """

    id: int
    type: str
    data: dict[str, Any]
    created: datetime
