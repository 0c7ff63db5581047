"""Data classes of the job table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from nngp_prior.schemas.job_names import JobNames


class State(StrEnum):
    """State of a job, in the terms of OGC API - Processes."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    SUCCESSFUL = "successful"
    FAILED = "failed"
    DISMISSED = "dismissed"


OPEN = (State.ACCEPTED, State.RUNNING)


@dataclass(frozen=True)
class Job:
    """Accepted request.

    Attributes:
        id: hash of the request.
        kind: kind of work.
        summary: short descriptions of data, architecture and method, for lists; None in jobs of older versions.
        rows: total number of result rows.
        unit: name of the rows, in the plural.
        state: current state.
        attempt: number of the attempt, from 1.
        losses: workers that died on it in this attempt.
        done: number of rows with results.
        given_up: rows among these without numbers, since workers died on them.
        stage: latest progress: ``stage``, ``done``, ``total``; None if nothing runs.
        error: problem details of a failed job.
        request_id: id of the request that started this attempt.
        version: incremented with every change.
        created: time of the first submission.
        updated: time of the last change.
        started: time of the first claim in this attempt.
        finished: time at which this attempt ended.
        names: name and tags.
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
    names: JobNames

    @property
    def is_final(self) -> bool:
        """False if a new submission starts a new attempt: the job failed, was dismissed, or lacks results of rows."""
        return self.state in OPEN or (self.state == State.SUCCESSFUL and self.given_up == 0)


@dataclass(frozen=True)
class Lease:
    """Temporary right to compute a unit of a job.

    Attributes:
        unit: number of the unit.
        job: id of the job.
        kind: kind of work.
        request: request of the job.
        rows: rows of the unit without results.
        cores: number of cores that it may use.
        bytes: peak memory.
        fence: number of this claim, larger than all earlier ones; writes with an older one are refused.
        until: end unless renewed, seconds of the clock of leases.
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
    """Event of a job.

    Attributes:
        id: number that grows with time, over all jobs.
        type: ``accepted``, ``running``, ``progress``, ``rows``, ``lost``, ``successful``, ``failed`` or ``dismissed``.
        data: details.
        created: time of the event.
    """

    id: int
    type: str
    data: dict[str, Any]
    created: datetime
