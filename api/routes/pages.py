"""``/``: pages for a person in a browser: jobs, a job with its results."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from api.deps import Shared
from api.jobs.cursor import CURSOR
from api.jobs.models import OPEN, Job, State
from api.middleware import ASSETS, COOKIE, SIGN_IN
from api.pages.figures import FIGURE_HEADERS, KERNEL, NO_PLOTS, RESULTS, can_draw, has_figure, has_kernel, version_of
from api.pages.names import names_of
from api.pages.rendering import WEB, PageRoute, form_of, render
from api.pages.snippets import as_curl, as_json, as_python
from api.pages.tables import Rows, Table, tables_of
from api.problems import DamagedStore, Problem
from api.routes.jobs import JobOf, respond_with_report, respond_with_results
from api.routes.submissions import accept
from api.service import Service
from api.work import WORK
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.job_names import MAX_TAGS, JobEdit
from nngp_prior.schemas.requests import ExperimentRequest

router = APIRouter(include_in_schema=False, route_class=PageRoute)
_ROWS = 100  # results per page
_JOBS = 50  # jobs per page
_SHOWN = 100_000  # characters of a request that is shown
_EVENTS = 200  # latest events shown
_FORMATS = {"json": "application/json", "ndjson": "application/x-ndjson", "npy": "application/x-npy"}
_REPORTS = {"html": "text/html", "md": "text/markdown", "csv": "text/csv"}


@router.get(f"{ASSETS}/page.css")
def style_sheet() -> FileResponse:
    """Return the style sheet of all pages."""
    return FileResponse(WEB / "page.css")


@router.get(f"{ASSETS}/page.js")
def script() -> FileResponse:
    """Return the script of all pages."""
    return FileResponse(WEB / "page.js", media_type="text/javascript")


@router.get(f"{ASSETS}/icon.svg")
def icon() -> FileResponse:
    """Return the icon of all pages."""
    return FileResponse(WEB / "icon.svg")


@router.get("/")
def jobs(
    request: Request,
    service: Shared,
    name: Annotated[str, Query(max_length=200)] = "",
    tag: Annotated[list[str], Query(max_length=MAX_TAGS)] = [],  # noqa: B006
    state: Annotated[str, Query(max_length=20)] = "",
    cursor: Annotated[str | None, Query(max_length=200, pattern=CURSOR)] = None,
) -> Response:
    """Return the list of jobs, newest first. Empty fields of the filter have no effect."""
    tags = [each for each in tag if each]
    chosen = State(state) if state in tuple(State) else None
    found, following = service.table.list(chosen, _JOBS, cursor, name=name.strip() or None, tags=tags)
    stated = {"name": name, "tag": tags, "state": str(chosen or ""), "cursor": following}
    return render(
        request,
        "jobs.html",
        jobs=found,
        states=[str(each) for each in State],
        name=name,
        tags=tags,
        state=str(chosen or ""),
        older="" if following is None else f"/?{urlencode({k: v for k, v in stated.items() if v}, doseq=True)}",
        live=any(job.state in OPEN for job in found),
    )


@router.get("/jobs/{job_id}")
def show(request: Request, job: JobOf, service: Shared, start: Annotated[int, Query(ge=0, lt=2**31)] = 0) -> Response:
    """Return a job's page: progress, results from row ``start`` on, figures, the request, events."""
    return _page(request, service, job, start)


@router.post("/jobs/{job_id}/names")
async def name(request: Request, job: JobOf, service: Shared) -> Response:
    """Change a job's name and tags, and return to its page; or show the page with what is wrong."""
    fields = await form_of(request)
    given, tags = fields.get("name") or None, {line.strip() for line in fields.get("tags", "").splitlines()} - {""}
    own = set(job.names.tags)
    try:
        edit = JobEdit(name=given, add_tags=tuple(tags - own), remove_tags=tuple(own - tags))
        await run_in_threadpool(service.table.edit, job.id, edit)
    except InvalidInput as error:
        wrong = {"error": str(error), "name": given or "", "tags": sorted(tags)}
        return await run_in_threadpool(_page, request, service, job, 0, wrong)
    return RedirectResponse(f"/jobs/{job.id}", 303)


def _page(request: Request, service: Service, job: Job, start: int, wrong: dict[str, Any] | None = None) -> Response:
    names = wrong or {"error": "", "name": job.names.name or "", "tags": job.names.tags}
    common: dict[str, Any] = {"job": job, "names": names, "start": start, "per_page": _ROWS, "no_plots": NO_PLOTS}
    status = 422 if wrong else 200
    try:
        content, facts = service.table.request(job.id)
    except DamagedStore as error:
        return render(request, "job.html", status, **common, **_NOTHING, damage=str(error))
    study = job.kind == ExperimentRequest.work
    first = job.rows - 1 if study and job.state == State.SUCCESSFUL else start
    rows = list(service.table.results(job.id, range(first, min(first + _ROWS, job.rows))))
    return render(
        request,
        "job.html",
        status,
        **common,
        damage="",
        tables=_tables(service, job, content, facts, rows),
        pages=_pages(job, start) if not study else (),
        plots=can_draw(),
        figure=has_figure(job),
        kernel=has_kernel(service, job),
        formats=[name for name in _FORMATS if name != "npy" or WORK[job.kind].columns],
        reports=tuple(_REPORTS) if study and job.state == State.SUCCESSFUL else (),
        snippets=_snippets(request, job, content),
        events=service.table.events(job.id)[-_EVENTS:],
    )


_NOTHING: dict[str, Any] = {  # of a damaged request
    **dict.fromkeys(("tables", "pages", "formats", "reports", "events", "snippets"), ()),
    **dict.fromkeys(("plots", "figure", "kernel"), False),
}


@router.get("/jobs/{job_id}/{name}.svg")
async def figure(request: Request, job: JobOf, name: str, v: Annotated[str, Query(max_length=40)] = "") -> Response:
    """Return a figure of a job; 304 if it is unchanged. ``v`` differs for each version, so that pages show the last."""
    del v
    if name not in (RESULTS, KERNEL):
        raise Problem(404, "not-found", f"There is no figure {name}.")
    tag = f'"{version_of(job, name)}"'
    headers = {**FIGURE_HEADERS, "ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    text = await request.app.state.figures.of(job, name)
    return Response(text, headers=headers, media_type="image/svg+xml")


@router.get("/jobs/{job_id}/results.{form}")
def results(job: JobOf, form: str, service: Shared) -> Response:
    """Return all results so far as a file."""
    if form not in _FORMATS or (form == "npy" and not WORK[job.kind].columns):
        raise Problem(404, "not-found", f"Results of {job.kind} are not available as {form}.")
    return _as_file(respond_with_results(service, job, _FORMATS[form]), f"{job.id[:12]}.{form}")


@router.get("/jobs/{job_id}/report.{form}")
def report(job: JobOf, form: str, service: Shared) -> Response:
    """Return the report of a study; Markdown and CSV as files."""
    if form not in _REPORTS:
        raise Problem(404, "not-found", f"Reports are not available as {form}.")
    found = respond_with_report(service, job, _REPORTS[form])
    return found if form == "html" else _as_file(found, f"{job.id[:12]}.{form}")


@router.get("/jobs/{job_id}/request.json")
def request_as_json(job: JobOf, service: Shared) -> Response:
    """Return the request as a file."""
    content, _ = service.table.request(job.id)
    return _as_file(Response(as_json(job.kind, content), media_type="application/json"), f"{job.id[:12]}-request.json")


@router.post("/jobs/{job_id}/dismiss")
def dismiss(job: JobOf, service: Shared) -> Response:
    """Stop a job, and return to its page."""
    service.table.dismiss(job.id)
    return RedirectResponse(f"/jobs/{job.id}", 303)


@router.post("/jobs/{job_id}/repeat")
async def repeat(job: JobOf, service: Shared) -> Response:
    """Start a new attempt of a job that failed or was dismissed, and return to its page."""
    work = WORK[job.kind]
    content, _ = service.table.request(job.id)
    again, _ = await service.in_thread(accept, service, work, work.request.model_validate(content), JobEdit())
    return RedirectResponse(f"/jobs/{again.id}", 303)


@router.post("/sign-out")
def sign_out() -> Response:
    """Forget the session in this browser."""
    answer = RedirectResponse(SIGN_IN, 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


def _tables(
    service: Service,
    job: Job,
    content: dict[str, Any],
    facts: dict[str, Any],
    rows: Rows,
) -> list[Table]:
    name = names_of(service, job.kind, content)
    return tables_of(job.kind, rows, WORK[job.kind].document(content, facts), name)


def _snippets(request: Request, job: Job, content: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the request as Python, JSON and a command; nothing of one with very many values."""
    text = as_json(job.kind, content)
    if len(text) > _SHOWN:
        return []
    url = str(request.base_url).rstrip("/")
    return [("Python", as_python(job.kind, content)), ("JSON", text), ("curl", as_curl(job.kind, content, url))]


def _pages(job: Job, start: int) -> list[int]:
    """Return the first rows of all pages of results, at most the nearest ten."""
    first = max(start - 5 * _ROWS, 0) // _ROWS * _ROWS
    return list(islice(range(first, job.rows, _ROWS), 10)) if job.rows > _ROWS else []


def _as_file(response: Response, name: str) -> Response:
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
