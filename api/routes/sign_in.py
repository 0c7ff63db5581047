"""``/sign-in``: form for browsers, which send no token in a header; its cookie gives access to pages alone."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from api.middleware import COOKIE, SIGN_IN, is_shown
from api.pages.rendering import render
from api.token import is_token, session_of

router = APIRouter(prefix=SIGN_IN, include_in_schema=False)
_FIELDS = 4
_HOME = "/"


@router.get("")
def form(request: Request, following: Annotated[str, Query(alias="next")] = _HOME) -> Response:
    """Return the form; ``next`` is the page shown after it."""
    return render(request, "sign-in.html", refused=False, following=_page_of(following))


@router.post("")
async def enter(request: Request) -> Response:
    """Check the token, and set a session cookie, inaccessible to scripts and not sent by other sites.

    Args:
        request: request with the form.

    Returns:
        a redirect to the page wanted, or the form again.
    """
    # Same encoding as in a header. The token is not part of the URL, which histories and logs keep.
    try:
        fields = parse_qs((await request.body()).decode("latin-1"), max_num_fields=_FIELDS)
    except ValueError:  # too many fields
        fields = {}
    given, following = fields.get("token", [""])[0].strip(), _page_of(fields.get("next", [_HOME])[0])
    token: str | None = request.app.state.token
    if token is not None and not is_token(given.encode(), token):
        return render(request, "sign-in.html", 401, refused=True, following=following)
    answer = RedirectResponse(following, 303)
    if token is not None:
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, session_of(token), secure=secure, httponly=True, samesite="strict")
    return answer


def _page_of(url: str) -> str:
    """Return the URL if it is that of a page of this service, else the first page's."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return _HOME
    return url if not (parts.scheme or parts.netloc) and is_shown(parts.path) else _HOME
