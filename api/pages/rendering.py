"""Templates of pages, and responses in HTML."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from typing_extensions import override

from api.bodies import StrictRoute
from api.errors import invalid
from api.problems import Problem, problem_of
from nngp_prior.errors import NngpPriorError
from nngp_prior.schemas.text import duration, number_of, size

WEB = Path(__file__).parents[1] / "web"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_FIELDS = 20  # of a small form
_SHORT = 10  # leading characters of an id that are shown


def _moment(time: datetime | None) -> str:
    return "" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _plural(unit: str, count: int) -> str:
    """Return a count with its unit, which is a plural."""
    return number_of(count, unit.removesuffix("s"))


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(WEB / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {
    "moment": _moment,
    "duration": duration,
    "bytes": size,
    "plural": _plural,
    "short": lambda text: text[:_SHORT],
}


def render(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page.

    Args:
        request: request for the page.
        template: file name of its template.
        status: HTTP status code.
        **values: variables of the template.

    Returns:
        the response, with a policy that allows nothing but files of this service.
    """
    token: str | None = request.app.state.token
    text = _ENVIRONMENT.get_template(template).render(path=request.url.path, signed_in=token is not None, **values)
    return HTMLResponse(text, status, {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"})


def render_problem(request: Request, problem: Problem) -> HTMLResponse:
    """Return the page for an error."""
    page = render(request, "problem.html", problem.status, problem=problem.document())
    for name, value in problem.headers.items():
        page.headers[name] = value
    return page


async def form_of(request: Request) -> dict[str, str]:
    """Return the fields of a small form; of several values of a name, the last.

    Args:
        request: request with the form.

    Returns:
        values by name, without surrounding space.

    Raises:
        Problem: if there are too many fields.
    """
    try:
        fields = parse_qs((await request.body()).decode(errors="replace"), max_num_fields=_FIELDS)
    except ValueError:
        raise Problem(422, "invalid-request", "The form has too many fields. Send it from its page.") from None
    return {name: values[-1].strip() for name, values in fields.items()}


class PageRoute(StrictRoute):
    """Route of a page, whose errors are pages too."""

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_with_pages(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                problem = invalid(error.errors())
            except HTTPException as error:
                problem = Problem(error.status_code, "not-found", str(error.detail), headers=error.headers)
            except (Problem, NngpPriorError, OSError) as error:
                problem = problem_of(error)
            return render_problem(request, problem)

        return handle_with_pages
