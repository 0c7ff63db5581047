"""``/new``: form that submits a request, or shows its cost."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from api.deps import Shared
from api.errors import invalid
from api.middleware import UPLOADING
from api.pages.form import FORMS, REQUEST, fields_of, groups_of, place_of, request_of, values_of
from api.pages.multipart import Form, receive
from api.pages.rendering import PageRoute, render
from api.problems import Problem, problem_of
from api.routes.submissions import accept, plan_of
from api.work import WORK, Plan
from nngp_prior.errors import NngpPriorError
from nngp_prior.schemas.base import Specification
from nngp_prior.schemas.job_names import JobEdit, JobNames
from nngp_prior.schemas.requests import EstimateRequest, ExperimentRequest

router = APIRouter(include_in_schema=False, route_class=PageRoute)
Kind = Annotated[str, Query(max_length=40)]
_NAMED = ("name", "tags")  # fields of the job and not of its request


@dataclass
class _Entered:
    """Values of a form, and errors by field."""

    values: dict[str, list[str]]
    errors: dict[str, list[str]] = field(default_factory=dict)
    plan: Plan | None = None

    def add(self, place: str, message: str) -> None:
        self.errors.setdefault(place, []).append(message)


@router.get(UPLOADING[1])
def form(
    request: Request,
    service: Shared,
    work: Kind = EstimateRequest.work,
    raw: bool = False,
    job: Annotated[str | None, Query(pattern="^[0-9a-f]{64}$")] = None,
) -> Response:
    """Return the form for a kind of work, as fields or as JSON, with defaults or with the request of a job."""
    _require(work)
    if job is None:
        values = {group.name: [] if group.several else [group.default] for group in groups_of(work)} if not raw else {}
        return _page(request, work, raw or work not in FORMS, _Entered(values))
    known = service.table.get(job)
    if known is None:
        raise Problem(404, "not-found", f"There is no job {job}.")
    content, _ = service.table.request(job)
    values = None if raw or known.kind not in FORMS else values_of(known.kind, content)
    if values is not None:
        return _page(request, known.kind, False, _Entered(values))
    text = json.dumps(WORK[known.kind].request.model_validate(content).non_default, indent=2, ensure_ascii=False)
    return _page(request, known.kind, True, _Entered({REQUEST: [text]}))


@router.post(UPLOADING[1])
async def send(request: Request, service: Shared, work: Kind = EstimateRequest.work, raw: bool = False) -> Response:
    """Submit the request, or show its cost, or show the form again with what is wrong."""
    _require(work)
    received = await receive(request, service)
    raw = raw or work not in FORMS
    entered = _Entered({**received.values, **{name: [sha] for name, sha in received.uploads.items()}})
    for name, message in received.errors.items():
        entered.add(name, message)
    found = None if entered.errors else await run_in_threadpool(_validated, work, raw, received, entered)
    if found is not None:
        prefixes, model, edit = found
        try:
            if "submit" in received.values.get("do", ()):
                job, _ = await service.in_thread(accept, service, WORK[work], model, edit)
                return RedirectResponse(f"/jobs/{job.id}", 303)
            entered.plan = await service.in_thread(plan_of, service, WORK[work], model)
        except (Problem, NngpPriorError) as error:
            _show(problem_of(error), entered, prefixes, work, raw)
    return _page(request, work, raw, entered)


def _require(work: str) -> None:
    if work not in WORK:
        raise Problem(404, "not-found", f"There is no kind of work {work!r}. Choose one of {', '.join(WORK)}.")


def _page(request: Request, work: str, raw: bool, entered: _Entered) -> Response:
    return render(
        request,
        "new.html",
        422 if entered.errors else 200,
        work=work,
        kinds=tuple(WORK),
        forms=FORMS,
        raw=raw,
        groups=() if raw else groups_of(work),
        fields=() if raw else fields_of(work),
        values=entered.values,
        errors=entered.errors,
        plan=entered.plan,
    )


def _validated(
    work: str, raw: bool, received: Form, entered: _Entered
) -> tuple[Mapping[str, str], Specification, JobEdit] | None:
    """Return prefixes of fields, the request, and name and tags; None if something is wrong, which is noted."""
    prefixes: Mapping[str, str] = {}
    model, edit, content = None, JobEdit(), None
    try:
        if raw:
            content = _parsed(work, received.values.get(REQUEST, [""])[-1])
        else:
            content, prefixes = request_of(work, received)
        model = WORK[work].request.model_validate(content)
    except ValidationError as error:
        problems = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        _show(invalid(problems, content), entered, prefixes, work, raw)
    except (NngpPriorError, ValueError, RecursionError) as error:
        entered.add(REQUEST if raw else "labellings", f"{error}. Correct it.")
    texts = {name: received.values.get(name, [""])[-1] for name in _NAMED}
    tags = tuple(tag for tag in (line.strip() for line in texts["tags"].splitlines()) if tag)
    try:
        edit = JobNames(name=texts["name"] or None, tags=tags).as_edit
    except NngpPriorError as error:
        entered.add("tags" if str(error).startswith("tags") else "name", str(error))
    return None if entered.errors or model is None else (prefixes, model, edit)


def _parsed(work: str, text: str) -> Any:
    """Return a request in JSON; of a study also the name of its protocol, or its TOML."""
    if work != ExperimentRequest.work or text.startswith("{"):
        return json.loads(text)
    return {"protocol": text if "\n" not in text and "=" not in text else tomllib.loads(text)}


def _show(problem: Problem, entered: _Entered, prefixes: Mapping[str, str], work: str, raw: bool) -> None:
    """Note what is wrong, beside the fields that it names."""
    for each in problem.errors or [{"location": "", "message": problem.detail}]:
        place = "" if raw else place_of(each["location"], prefixes, work)
        named = each["location"].removeprefix("body.")
        entered.add(place, each["message"] if place else f"{named}: {each['message']}" if named else each["message"])
