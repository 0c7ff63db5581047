"""Jobs: states, results and events."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

import numpy as np
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel

from api.bodies import StrictRoute
from api.deps import Digest, Shared
from api.documents import JobDocument, Link, job_document, json_rows, results_response
from api.jobs.cursor import CURSOR
from api.jobs.models import OPEN, Job, State
from api.negotiation import accepted, preferred
from api.problems import DatabaseUnavailable, Problem
from api.routes.submissions import wait_of
from api.service import Service
from api.work import WORK
from nngp_prior.experiments.requests import ExperimentRunner
from nngp_prior.schemas.job_names import MAX_TAGS, JobEdit, Tag
from nngp_prior.schemas.requests import ExperimentRequest
from nngp_prior.schemas.results.experiment import REPORTS

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute)
_CALM = 0.2  # seconds between two reads of a job that changes often
_ALIVE = 15.0  # seconds between keep-alive messages to a subscriber
_JSON, _NDJSON, _NPY = "application/json", "application/x-ndjson", "application/x-npy"
_VARY = {"Vary": "Accept"}
# Text of a request is in the report: nothing in it is run or loaded, whatever it is.
_REPORT = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"}


class EventStream(StreamingResponse):
    """Server-sent events."""

    media_type = "text/event-stream"


class JobList(BaseModel):
    """Page of jobs, newest first."""

    jobs: list[JobDocument]
    links: list[Link]


def _job(service: Shared, job_id: Digest) -> Job:
    job = service.table.get(job_id)
    if job is None:
        raise Problem(404, "not-found", f"There is no job {job_id}.")
    return job


JobOf = Annotated[Job, Depends(_job)]


@router.get("")
def list_jobs(
    service: Shared,
    name: Annotated[str | None, Query(max_length=200, description="Text in the name; case does not matter.")] = None,
    tag: Annotated[list[Tag], Query(max_length=MAX_TAGS, description="Tag; if repeated, jobs have all of them.")] = [],  # noqa: B006
    state: Annotated[State | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query(max_length=200, json_schema_extra={"pattern": CURSOR})] = None,
) -> JobList:
    """List jobs, newest first; ``links`` has the next page if there is one."""
    jobs, following = service.table.list(state, limit, cursor, name=name, tags=tag)
    links = []
    if following is not None:
        chosen = {"limit": limit, "name": name, "tag": tag, "state": state, "cursor": following}
        stated = {key: value for key, value in chosen.items() if value is not None}
        links = [Link(rel="next", href=f"/v1/jobs?{urlencode(stated, doseq=True)}")]
    return JobList(jobs=[job_document(job) for job in jobs], links=links)


@router.get("/{job_id}", responses={304: {"description": "The job has not changed since the given ETag."}})
async def show(
    job: JobOf,
    service: Shared,
    response: Response,
    if_none_match: Annotated[str | None, Header()] = None,
    prefer: Annotated[str | None, Header(description="`wait=N`: answer at the next change, or after N ≤ 30 s.")] = None,
) -> JobDocument:
    """Get a job's state and progress."""
    known = [each.strip().removeprefix("W/") for each in (if_none_match or "").split(",")]
    wait = wait_of(prefer)
    if wait is not None:
        response.headers["Preference-Applied"] = f"wait={wait}"
        if not known[0] or _is_known(job, known):
            job = await service.changes.after(job, wait)
    tag = _tag(job)
    if _is_known(job, known):
        return Response(status_code=304, headers={**response.headers, "ETag": tag})  # pyright: ignore[reportReturnType]
    response.headers["ETag"] = tag
    if job.state in OPEN:
        response.headers["Retry-After"] = "1"
    return job_document(job)


@router.get(
    "/{job_id}/results",
    responses={200: {"content": {_NDJSON: {}, _NPY: {}}, "description": "Results as JSON, JSON lines or an array."}},
)
def results(
    job: JobOf,
    service: Shared,
    request: Request,
    partial: Annotated[bool, Query(description="Return the rows computed so far, in any state.")] = False,
) -> Response:
    """Get results as JSON, JSON lines (``application/x-ndjson``) or an array (``application/x-npy``)."""
    if not partial:
        _require_results(job)
    offered = (_JSON, _NDJSON, _NPY) if WORK[job.kind].columns else (_JSON, _NDJSON)
    media_type = preferred(accepted(request.headers), offered)
    if media_type is None:
        detail = f"Results of {job.kind} are {', '.join(offered)}. Accept one of these."
        raise Problem(406, "not-acceptable", detail, headers=_VARY)
    return respond_with_results(service, job, media_type)


def respond_with_results(service: Service, job: Job, media_type: str) -> Response:
    """Return the results stored so far in one of the media types of the kind of work."""
    match media_type:
        case "application/x-ndjson":
            return StreamingResponse(_lines(service, job), headers=_VARY, media_type=_NDJSON)
        case "application/x-npy":
            return Response(_array(service, job, WORK[job.kind].columns), headers=_VARY, media_type=_NPY)
        case _:
            return results_response(service, job, _VARY)


@router.get(
    "/{job_id}/report",
    response_class=FileResponse,
    responses={
        200: {
            "content": {kind: {"schema": {"type": "string"}} for kind in REPORTS.values()},
            "description": "Report of a study: one HTML file that needs no other, Markdown, or the rows as CSV.",
        }
    },
)
def report(job: JobOf, service: Shared, request: Request) -> FileResponse:
    """Get the report of a study as HTML, Markdown (``text/markdown``) or CSV (``text/csv``)."""
    media_type = preferred(accepted(request.headers), tuple(REPORTS.values()))
    if media_type is None:
        detail = f"Reports are {', '.join(REPORTS.values())}. Accept one of these."
        raise Problem(406, "not-acceptable", detail, headers=_VARY)
    return respond_with_report(service, job, media_type)


def respond_with_report(service: Service, job: Job, media_type: str) -> FileResponse:
    """Return the report of a study.

    Args:
        service: the service.
        job: a job of a study.
        media_type: one of the media types of reports.

    Returns:
        the file.

    Raises:
        Problem: if there is none, or not yet.
    """
    if job.kind != ExperimentRequest.work:
        raise Problem(404, "not-found", f"Jobs of {job.kind} have no report. Ask for the results of {job.id}.")
    _require_results(job)
    content, facts = service.table.request(job.id)
    kind = next(name for name, each in REPORTS.items() if each == media_type)
    runner = ExperimentRunner(service.runner.studies)
    path = runner.report(ExperimentRequest.model_validate(content), kind, facts["versions"])
    if path is None:
        raise Problem(404, "not-found", "The report's file was deleted. The results have its rows and verdicts.")
    return FileResponse(path, headers={**_VARY, **_REPORT}, media_type=f"{media_type}; charset=utf-8")


@router.get(
    "/{job_id}/events",
    response_class=EventStream,
    responses={
        200: {"content": {EventStream.media_type: {"schema": {"type": "string"}}}, "description": "Stream of events."}
    },
)
def events(
    job: JobOf,
    service: Shared,
    last_event_id: Annotated[int | None, Header(ge=0, lt=2**63)] = None,
) -> EventStream:
    """Stream the past and future events of a job until it ends; with ``Last-Event-ID``, those after that event."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return EventStream(_events(service, job.id, last_event_id or 0), headers=headers)


@router.patch("/{job_id}")
def edit(job: JobOf, service: Shared, body: JobEdit, response: Response) -> JobDocument:
    """Change the name or the tags of a job, in any state."""
    changed = service.table.edit(job.id, body) or job
    response.headers["ETag"] = _tag(changed)
    return job_document(changed)


@router.delete("/{job_id}", status_code=202)
def dismiss(job: JobOf, service: Shared) -> JobDocument:
    """Stop a job; finished rows are kept for a new attempt. No effect if the job has ended."""
    return job_document(service.table.dismiss(job.id) or job)


async def _events(service: Service, job_id: str, after: int) -> AsyncIterator[str]:
    with service.changes.of(job_id) as changed:
        while True:
            changed.clear()
            try:
                now, found = await service.changes.news(job_id, after)
            except DatabaseUnavailable:  # clients come back, with the id of the last event
                return
            if found:
                after = found[-1].id
                yield "".join(f"event: {each.type}\ndata: {json.dumps(each.data)}\nid: {each.id}\n\n" for each in found)
            if now is None or now[0] not in OPEN or service.stopping:
                return
            await asyncio.sleep(_CALM)
            try:
                await asyncio.wait_for(changed.wait(), _ALIVE)
            except TimeoutError:
                yield ": nothing new\n\n"


def _is_known(job: Job, tags: Sequence[str]) -> bool:
    return "*" in tags or _tag(job) in tags


def _tag(job: Job) -> str:
    return f'"{job.attempt}.{job.version}"'


def _require_results(job: Job) -> None:
    if job.state == State.FAILED:
        error = job.error or {}
        if error.get("status", 500) < 500:
            raise Problem(error["status"], error["code"], error["detail"], error["errors"])
        # An internal error of the job, not of this request, which need not be retried.
        said = f"The job failed: {error.get('detail', 'nothing more is known')}"
        raise Problem(409, "job-failed", f"{said} Its error has the request_id. Post it again for a new attempt.")
    if job.state == State.DISMISSED:
        raise Problem(410, "dismissed", "The job was dismissed. Post its request again for a new attempt.")
    if job.state != State.SUCCESSFUL:
        raise Problem(
            409,
            "result-not-ready",
            f"{job.done:,} of {job.rows:,} {job.unit} are done ({job.state}). Ask again, or for ?partial=true.",
            headers={"Retry-After": "1"},
        )


def _lines(service: Service, job: Job) -> Iterator[str]:
    for rows in json_rows(service, job, "\n"):
        yield f"{rows}\n"


def _array(service: Service, job: Job, columns: tuple[str, ...]) -> bytes:
    """Return one row per result; NaN for missing numbers."""
    values = np.full((job.rows, len(columns)), np.nan)
    for row, document in service.table.results(job.id):
        values[row] = [_number(document.get(name)) for name in columns]
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
