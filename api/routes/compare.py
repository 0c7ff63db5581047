"""``/compare``: several jobs side by side, as tables and as a scatter plot."""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from api.deps import Shared
from api.pages.comparison import Compared, can_scatter, differences, numbers_of, scatter, table
from api.pages.figures import FIGURE_HEADERS, NO_PLOTS, can_draw
from api.pages.names import names_of
from api.pages.rendering import PageRoute, render
from api.problems import Problem
from api.service import Service
from api.work import WORK
from nngp_prior.schemas.requests import ExperimentRequest

router = APIRouter(prefix="/compare", include_in_schema=False, route_class=PageRoute)
_MOST = 12  # jobs
_ROWS = 1000  # results per job
Ids = Annotated[list[str], Query(alias="job", max_length=_MOST)]


@router.get("")
def compare(request: Request, service: Shared, ids: Ids = []) -> Response:  # noqa: B006
    """Return the page: differences between the requests, and the numbers of all jobs."""
    jobs = _compared(service, ids)
    query = "&".join(f"job={each.job.id}" for each in jobs)
    return render(
        request,
        "compare.html",
        jobs=jobs,
        differences=differences(jobs),
        lines=table(jobs),
        quantities=list(dict.fromkeys(each.quantity for each in jobs)),
        figure=f"/compare/figure?{query}" if len(jobs) > 1 and can_scatter(jobs) else "",
        plots=can_draw(),
        no_plots=NO_PLOTS,
        rows=_ROWS,
    )


@router.get("/figure")
async def figure(request: Request, service: Shared, ids: Ids = []) -> Response:  # noqa: B006
    """Return the scatter plot."""
    jobs = await run_in_threadpool(_compared, service, ids)
    if len(jobs) < 2 or not can_scatter(jobs):
        raise Problem(404, "not-found", "These jobs have no numbers of the same quantity to compare.")
    key = tuple(f"{each.job.id}.{each.job.attempt}.{each.job.version}" for each in jobs)
    tag = f'"{hash(key):x}"'
    headers = {**FIGURE_HEADERS, "ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    text = await request.app.state.figures.drawn(key, partial(scatter, jobs))
    return Response(text, headers=headers, media_type="image/svg+xml")


def _compared(service: Service, ids: list[str]) -> list[Compared]:
    found = []
    for job_id in dict.fromkeys(ids):
        job = service.table.get(job_id)
        if job is None:
            raise Problem(404, "not-found", f"There is no job {job_id[:64]}.")
        content, facts = service.table.request(job.id)
        about: dict[str, Any] = WORK[job.kind].document(content, facts)
        wanted = [job.rows - 1] if job.kind == ExperimentRequest.work else None
        rows = [row for _, row in islice(service.table.results(job.id, wanted), _ROWS)]
        name = names_of(service, job.kind, content)
        found.append(Compared(job, content, numbers_of(job.kind, rows, about, name)))
    return found
