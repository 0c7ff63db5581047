"""``/sign-in``: form for browsers, which send no token in a header; its cookie gives access to ``/docs`` alone."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from api.middleware import COOKIE, SIGN_IN
from api.token import is_token, session_of

router = APIRouter(prefix=SIGN_IN, include_in_schema=False)
_PAGE = (Path(__file__).parents[1] / "web" / "sign-in.html").read_text(encoding="utf-8")
_FIELDS = 4
_POLICY = "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


@router.get("")
def form() -> HTMLResponse:
    """Return the form."""
    return _page(_PAGE, 200)


@router.post("")
async def enter(request: Request) -> Response:
    """Check the token, and set a session cookie, inaccessible to scripts and not sent by other sites.

    Args:
        request: request with the form.

    Returns:
        a redirect to ``/docs``, or the form again.
    """
    # Same encoding as in a header. The token is not part of the URL, which histories and logs keep.
    try:
        fields = parse_qs((await request.body()).decode("latin-1"), max_num_fields=_FIELDS)
    except ValueError:  # too many fields
        fields = {}
    given = fields.get("token", [""])[0].strip()
    token: str | None = request.app.state.token
    if token is not None and not is_token(given.encode(), token):
        return _page(_PAGE.replace("<!-- message -->", "<strong>That is not the token.</strong> "), 401)
    answer = RedirectResponse("/docs", 303)
    if token is not None:
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, session_of(token), secure=secure, httponly=True, samesite="strict")
    return answer


def _page(text: str, status: int) -> HTMLResponse:
    return HTMLResponse(text, status, {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"})
