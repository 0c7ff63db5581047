"""JSON representation of jobs and results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any

from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel

from api.jobs.models import Job
from api.service import Service
from api.work import WORK
from api.work.summary import SUMMARY
from nngp_prior.schemas.pieces import encode
from nngp_prior.schemas.requests import ExperimentRequest

_TOGETHER = 100  # rows per chunk of the response
_COMPACT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Stage(BaseModel):
    """Stage within a row, such as a kernel's tiles."""

    stage: str
    done: int
    total: int


class ProgressDocument(BaseModel):
    """Number of finished rows, and of all rows."""

    current: int
    target: int
    unit: str
    stage: Stage | None


class Link(BaseModel):
    """Link to another resource."""

    rel: str
    href: str


class CostDocument(BaseModel):
    """Expected cost of all rows: peak memory, and time if they are computed in sequence."""

    bytes: int
    seconds: float


class JobDocument(BaseModel):
    """Job; with short descriptions of data, architecture and method, number of inputs and expected cost if known."""

    id: str
    name: str | None
    tags: list[str]
    kind: str
    state: str
    data: str | None
    n: int | None
    architecture: str | None
    method: str | None
    cost: CostDocument | None
    progress: ProgressDocument
    attempt: int
    losses: int
    created: datetime
    started: datetime | None
    finished: datetime | None
    error: dict[str, Any] | None
    links: list[Link]


def job_document(job: Job) -> JobDocument:
    """Convert a job to its JSON document.

    Args:
        job: job from the table.

    Returns:
        the document.
    """
    here = f"/v1/jobs/{job.id}"
    report = [Link(rel="report", href=f"{here}/report")] if job.kind == ExperimentRequest.work else []
    summary = dict.fromkeys(SUMMARY) | (job.summary or {})
    return JobDocument(
        id=job.id,
        name=job.names.name,
        tags=list(job.names.tags),
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
            *report,
        ],
    )


def results_response(service: Service, job: Job, headers: Mapping[str, str] | None = None) -> Response:
    """Stream the results of a job that are stored so far, as one JSON document.

    Args:
        service: the service.
        job: the job.
        headers: headers of the response.

    Returns:
        the response.
    """
    head = WORK[job.kind].document(*service.table.request(job.id))  # raises for damaged data before the response begins
    return StreamingResponse(_document(service, job, head), 200, headers, "application/json")


def json_rows(service: Service, job: Job, separator: str) -> Iterator[str]:
    """Yield the results of a job in chunks.

    Args:
        service: the service.
        job: the job.
        separator: separator of rows.

    Yields:
        JSON text of several rows, with separators.
    """
    found = service.table.results(job.id)
    before = ""
    while part := [_COMPACT(document) for _, document in islice(found, _TOGETHER)]:
        yield before + separator.join(part)
        before = separator


def _document(service: Service, job: Job, head: dict[str, Any]) -> Iterator[str]:
    yield f'{encode(head)[:-1]}, "results": ['
    yield from json_rows(service, job, ",")
    yield "]}"
