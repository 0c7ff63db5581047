"""Jobs and results as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from api.jobs.models import Job
from api.service import Service
from api.work import WORK
from api.work.summary import SUMMARY


class Stage(BaseModel):
    """A step inside a row, such as a kernel's tiles."""

    stage: str
    done: int
    total: int


class ProgressDocument(BaseModel):
    """Rows that are done, of how many."""

    current: int
    target: int
    unit: str
    stage: Stage | None


class Link(BaseModel):
    """Another resource."""

    rel: str
    href: str


class JobDocument(BaseModel):
    """A job; data, architecture and method in few words, and the number of inputs, where they are known."""

    id: str
    kind: str
    state: str
    data: str | None
    n: int | None
    architecture: str | None
    method: str | None
    progress: ProgressDocument
    attempt: int
    losses: int
    created: datetime
    started: datetime | None
    finished: datetime | None
    error: dict[str, Any] | None
    links: list[Link]


def job_document(job: Job) -> JobDocument:
    """A job for clients.

    Args:
        job: of the table.

    Returns:
        its document.
    """
    here = f"/v1/jobs/{job.id}"
    summary = dict.fromkeys(SUMMARY) | (job.summary or {})
    return JobDocument(
        id=job.id,
        kind=job.kind,
        state=str(job.state),
        **{name: summary[name] for name in SUMMARY},
        progress=ProgressDocument(
            current=job.done,
            target=job.rows,
            unit=job.unit,
            stage=None if job.stage is None else Stage(**job.stage),
        ),
        attempt=job.attempt,
        losses=job.losses,
        created=job.created,
        started=job.started,
        finished=job.finished,
        error=job.error,
        links=[
            Link(rel="self", href=here),
            Link(rel="results", href=f"{here}/results"),
            Link(rel="events", href=f"{here}/events"),
        ],
    )


def results_document(service: Service, job: Job) -> dict[str, Any]:
    """All results of a job, or those that there are.

    Args:
        service: that has them.
        job: whose they are.

    Returns:
        what JSON can hold.
    """
    head = WORK[job.kind].document(*service.table.request(job.id))
    return {**head, "results": [document for _, document in service.table.results(job.id)]}
