"""``POST /v1/{kind}``: one route per kind of work, all over the same jobs."""

import hashlib
import json
import re
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Header, Query, Response
from starlette.concurrency import run_in_threadpool

from api.bodies import StrictRoute
from api.deps import Shared
from api.documents import JobDocument, job_document, results_response
from api.jobs.models import OPEN, Job, State
from api.problems import Problem, StorageFull
from api.service import Service
from api.work import WORK, Plan, Work
from api.work.summary import summary_of
from nngp_prior.schemas.base import Specification
from nngp_prior.schemas.job_names import MAX_TAGS, JobEdit, JobName, JobNames, Tag
from nngp_prior.versions import versions

_LONGEST_WAIT = 30
_RETRY_AFTER = 5  # seconds


def routers() -> list[APIRouter]:
    """Return one router per kind of work."""
    return [_router(work) for work in WORK.values()]


def job_id_of(kind: str, request: Specification) -> str:
    """Return the SHA-256, in hexadecimal, of everything that determines the results.

    Args:
        kind: kind of work.
        request: body of the request.

    Returns:
        an id, equal for equal requests under equal versions.
    """
    content = json.dumps([kind, request.content_hash, versions()], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def _router(work: Work[Any]) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=[work.kind], route_class=StrictRoute)

    async def submit(
        body: Specification,
        response: Response,
        service: Shared,
        name: Annotated[JobName | None, Query(description="Name of the job; replaces an earlier one.")] = None,
        tag: Annotated[list[Tag], Query(max_length=MAX_TAGS, description="Tag to add; may be repeated.")] = [],  # noqa: B006
        dry_run: Annotated[bool, Query(description="Return the cost of the request without running it.")] = False,
        prefer: Annotated[
            str | None, Header(description="`wait=N`: answer with the results if the job ends within N ≤ 30 s.")
        ] = None,
    ) -> Any:
        if dry_run:
            plan = await service.in_thread(plan_of, service, work, body)
            response.status_code = 200
            return {
                "bytes": plan.bytes,
                "seconds": round(plan.seconds, 3),
                "cached": plan.cached,
                "rows": plan.rows,
                "chunks": len(plan.chunks),
            }
        job, new = await service.in_thread(accept, service, work, body, JobNames.of(name, tag).as_edit)
        wait = wait_of(prefer)
        if wait is not None:
            response.headers["Preference-Applied"] = f"wait={wait}"
            job = await service.changes.ended(job.id, wait) or job
        location = f"/v1/jobs/{job.id}"
        if wait is not None and job.state == State.SUCCESSFUL:
            headers = {"Preference-Applied": f"wait={wait}", "Content-Location": f"{location}/results"}
            return await run_in_threadpool(results_response, service, job, headers)
        response.status_code = 201 if new else 200
        response.headers["Location"] = location
        if job.state in OPEN:
            response.headers["Retry-After"] = "1"
        return job_document(job)

    submit.__annotations__["body"] = work.request
    router.add_api_route(
        f"/{work.kind}",
        submit,
        methods=["POST"],
        name=f"submit {work.kind}",
        status_code=201,
        response_model=None,
        responses={
            200: {"description": "The job exists, or ended within the wait, or this is a dry run."},
            201: {"model": JobDocument, "description": "The job is accepted."},
        },
    )
    return router


def wait_of(prefer: str | None) -> int | None:
    """Return how long a client wants to wait for an answer (RFC 7240).

    Args:
        prefer: value of the header ``Prefer``.

    Returns:
        seconds, at most 30; None if not stated.
    """
    found = re.search(r"(?:^|[,;\s])wait\s*=\s*(\d{1,9})(?:$|[,;\s])", prefer or "")
    return None if found is None else min(int(found[1]), _LONGEST_WAIT)


def plan_of(service: Service, work: Work[Any], request: Specification) -> Plan:
    """Check a request and plan it, without accepting it.

    Args:
        service: the service.
        work: kind of work.
        request: body of the request.

    Returns:
        the plan.

    Raises:
        Problem: if it has too many rows, or a part of it takes too long.
    """
    service.count(getattr(request, "labellings", ()))
    plan = work.plan(request, service.runner, service.limits)
    service.require_rows(plan.unit, plan.rows)
    longest = max(chunk.seconds for chunk in plan.chunks)
    if longest > service.settings.task_seconds:
        raise Problem(
            422,
            "too-long",
            f"A part of the request takes about {longest:,.0f} s, and {service.settings.task_seconds:,.0f} are allowed "
            "(NNGP_TASK_SECONDS). Ask for fewer particles, replicates or draws.",
        )
    return plan


def accept(service: Service, work: Work[Any], request: Specification, edit: JobEdit) -> tuple[Job, bool]:
    """Accept a request, or find its job.

    Args:
        service: the service.
        work: kind of work.
        request: body of the request.
        edit: change of the job's name and tags.

    Returns:
        the job, and True if this call created it or a new attempt of it.

    Raises:
        Problem: if the queue is full, or the request is refused.
        StorageFull: if the disk is full.
    """
    job_id = job_id_of(work.kind, request)
    known = service.table.get(job_id)
    if known is not None and known.is_final:
        changes = known.names.after(edit) != known.names
        return (service.table.edit(job_id, edit) if changes else None) or known, False
    plan = plan_of(service, work, request)
    if service.table.open_jobs() >= service.settings.queue_limit:
        raise Problem(
            429,
            "queue-full",
            f"{service.settings.queue_limit:,} jobs wait already. Send it again later.",
            headers={"Retry-After": str(_RETRY_AFTER)},
        )
    if service.disk_is_full():
        raise StorageFull("The service's disk is full. Free some of it; what was accepted waits.")
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    summary = summary_of(request, plan)
    return service.table.submit(job_id, work.kind, request.as_json, plan, request_id, summary, edit=edit)
